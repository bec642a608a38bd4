"""The clients of a round: they ask over HTTP as the documents say, and write down what they asked and were answered."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec

from headrace import codec, ids
from headrace.bus.subjects import trigger
from headrace.client.client import Client
from headrace.client.streams import COMPLETE
from headrace.client.transport import Transport
from headrace.errors import HeadraceError, UnavailableError
from headrace.testing.checker.history import Asked, History, Reading
from headrace.testing.simulation import documents
from headrace.testing.simulation.chance import Chance
from headrace.testing.simulation.features import SIGNAL
from headrace.vocabulary import LOG_APPROVALS, LOG_CATALOGUE, LOG_RUNS
from tests.chaos import ledger
from tests.chaos.bus_faults import TIMEOUT_S, BusFaults
from tests.chaos.stand import Stand

REQUEST_S: Final = 30.0
PATIENCE_S: Final = 240.0
"""How long a client asks again under the same key: longer than any trouble of a round."""
LOOK_S: Final = 1.0
PAUSED_S: Final = 2.0
READ_AGAIN_S: Final = 0.5
REJECTED_PERCENT: Final = 8
DOCUMENTS: Final = documents.DOCUMENTS
TRIGGERED: Final = (1, 2, 3)
"""The workflows that trigger events start, by the number of their document."""


class People:
    """Those who ask, those who decide, those who read."""

    def __init__(self, stand: Stand, bus: BusFaults, history: History, file: Path, chance: Chance) -> None:
        self._stand, self._bus, self._history, self._chance = stand, bus, history, chance
        self._file = file.open("ab", buffering=0)
        self._requests = file.with_name("requests.jsonl").open("ab")
        self._number = 0
        self.count: Counter[str] = Counter()
        self.storming = True
        self.triggers: list[str] = []
        self.open = 0
        self._patience: dict[int, asyncio.Timeout] = {}

    async def arrive(self) -> None:
        """Get tokens, and make the workflows that triggers start known."""
        admin = self._stand.client(patience_s=PATIENCE_S)
        async with admin:
            made = {
                name: await admin.create_token(name, roles)
                for name, roles in (("ann", ["operator"]), ("bob", ["approver"]), ("cleo", ["approver"]))
            }
            self._asked("apply", LOG_CATALOGUE, (await admin.apply(documents.child())).get("id"))
            for number in TRIGGERED:
                document = documents.triggered(number)
                document["metadata"]["name"] = f"triggered-{number}"
                document["spec"]["triggers"] = [{"type": "event", "event": f"chaos.{number}"}]
                applied = await admin.apply(document)
                self._asked("apply", LOG_CATALOGUE, applied.get("id"))
        self._ann = self._client(made["ann"]["token"])
        self._approvers = [self._client(made[name]["token"]) for name in ("bob", "cleo")]

    def _client(self, token: str) -> Client:
        """Give a client of which every single request, and what came of it, is written down."""
        hooks: dict[str, list[Callable[..., Any]]] = {"request": [self._sent], "response": [self._received]}
        http = httpx2.AsyncClient(timeout=REQUEST_S, event_hooks=hooks)
        return Client(
            self._stand.url, token, transport=Transport(self._stand.url, token, patience_s=PATIENCE_S, http=http)
        )

    async def _sent(self, request: httpx2.Request) -> None:
        self.count["requests sent"] += 1
        self._note(request)

    async def _received(self, response: httpx2.Response) -> None:
        self._note(response.request, status=response.status_code)

    def _note(self, request: httpx2.Request, **more: object) -> None:
        key, after = (request.headers.get(name) for name in ("idempotency-key", "last-event-id"))
        told = {"at": self._stand.clock.now_ms(), "method": request.method, "path": request.url.path, "key": key}
        self._requests.write(codec.dumps({**told, "after": after, **more}) + b"\n")

    async def leave(self) -> None:
        """Let go of connections."""
        for client in (self._ann, *self._approvers):
            await client.close()
        for file in (self._file, self._requests):
            file.close()

    # asking

    async def ask_for_runs(self, group: asyncio.TaskGroup, pause_s: float) -> None:
        """Ask for one run after another while the storm lasts; `pause_s` is the mean time from one to the next."""
        while self.storming:
            self._number += 1
            chance = Chance(f"{self._number} {self._chance.random()}")
            group.create_task(self._watched(chance, self._number))
            await asyncio.sleep(pause_s * 2 * self._chance.random())

    async def _watched(self, chance: Chance, number: int) -> None:
        self.open += 1
        try:
            async with asyncio.timeout(None) as patience:
                self._patience[number] = patience
                await (self._trigger if chance.happens(0.08) else self._job)(chance, number)
        except* TimeoutError:
            self.count["still at it when patience ended"] += 1
        except* HeadraceError as problems:
            self.count["given up"] += 1
            self._stand.say(f"  a client gave up: {problems.exceptions}")
        finally:
            del self._patience[number]
            self.open -= 1

    def give_up(self) -> None:
        """Let everybody who still waits go home."""
        for patience in self._patience.values():
            patience.reschedule(0)

    async def _job(self, chance: Chance, number: int) -> None:
        """Ask for a run, do to it what people do, and read its events to the end."""
        document, key = documents._document(chance.randrange(DOCUMENTS)), f"job-{number}"
        body = {"spec": document}
        run_id = await self._create(body, key)
        if run_id is None:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(run_id, f"reader-{number}"))
            if document["spec"].get("automation") == "human_approval":
                await self._act("start_run", run_id, "start", key)
            await self._answer_waits(document, run_id, key)
            if chance.happens(0.3):
                await asyncio.sleep(chance.random() * 5)
                await self._create(body, key)
                self.count["asked again under the same key"] += 1
            if chance.happens(0.12):
                await self._act("pause_run", run_id, "pause", key)
                await asyncio.sleep(PAUSED_S)
                await self._act("resume_run", run_id, "resume", key)
            if chance.happens(0.12):
                await asyncio.sleep(chance.random() * 6)
                await self._act("cancel_run", run_id, "cancel", key)
        if chance.happens(0.1) and (await self._ann.run(run_id)).status in {"failed", "cancelled"}:
            await self._create_by("retry", f"/runs/{run_id}", {"action": "retry"}, f"{key}/retry")

    async def _answer_waits(self, document: dict[str, Any], run_id: str, key: str) -> None:
        """Send the signal, or the event, that a run's document says it waits for."""
        for step in document["spec"]["steps"]:
            waits = step.get("wait")
            if isinstance(waits, dict) and "signal" in waits:
                more = {"name": SIGNAL, "signal_id": key, "data": {"value": self._number}}
                await self._act("signal_run", run_id, "signal", key, **more)
            elif isinstance(waits, dict) and "event" in waits:
                await self._published(waits["event"], f"event-{key}", self._number)

    async def _create(self, body: dict[str, Any], key: str) -> str | None:
        return await self._create_by("create_run", "/runs", body, key)

    async def _create_by(self, kind: str, path: str, body: dict[str, Any], key: str) -> str | None:
        try:
            told = await self._ann.post(path, body, key=key)
        except UnavailableError:
            self._asked(kind, LOG_RUNS, None, key=key, status=None)
            raise
        except HeadraceError as problem:
            self._asked(kind, LOG_RUNS, None, key=key, status=problem.status, answer=problem.message.encode())
            self.count[f"{kind} refused"] += 1
            self._stand.say(f"  {kind} was refused: {problem.type}: {problem.message[:300]}")
            return None
        same = {name: told[name] for name in ("id", "plan_digest", "created_at", "attempt", "retry_of")}
        self._asked("create_run", LOG_RUNS, told["id"], key=key, answer=codec.dumps(same))
        return str(told["id"])

    async def _act(self, kind: str, run_id: str, action: str, key: str, **more: object) -> None:
        """Act on a run; a refusal, because it is over already, is an answer too."""
        try:
            await self._ann.post(f"/runs/{run_id}", {"action": action, **more}, key=f"{key}/{action}")
        except UnavailableError:
            self._asked(kind, LOG_RUNS, run_id, status=None)
            raise
        except HeadraceError as problem:
            self._asked(kind, LOG_RUNS, run_id, status=problem.status, answer=problem.message.encode())
        else:
            self._asked(kind, LOG_RUNS, run_id, answer=b"")

    async def _trigger(self, chance: Chance, number: int) -> None:
        """Publish a trigger with a plain NATS client, again until its run is there: NATS may lose what it took."""
        which, identity = chance.choice(TRIGGERED), f"trigger-{number}"
        self.triggers.append(identity)
        while True:
            await self._published(f"chaos.{which}", identity, number)
            for _ in range(10):
                await asyncio.sleep(READ_AGAIN_S)
                if await self._triggered(f"triggered-{which}", identity):
                    return

    async def _published(self, name: str, identity: str, number: int) -> None:
        """Publish a trigger event once, as any NATS client does."""
        body, headers = b'{"number": %d}' % number, {"Nats-Msg-Id": identity}
        try:
            await self._bus.nats.jetstream().publish(trigger(name), body, headers=headers, timeout=TIMEOUT_S)
        except Exception as problem:  # noqa: BLE001  (nats-py raises many kinds while the server is away)
            self.count[f"trigger not taken: {type(problem).__name__}"] += 1

    async def _triggered(self, workflow: str, identity: str) -> bool:
        page = await self._ann.get("/runs", workflow=workflow, limit=100)
        return any(item["labels"].get("trigger_id") == identity for item in page["items"])

    # reading

    async def _read(self, run_id: str, name: str) -> None:
        """Read a run's events as they come, by SSE, through every reconnect."""
        reading = Reading(reader=name, log=LOG_RUNS, stream_id=run_id)
        self._history.readings.append(reading)
        after: str | None = None
        while True:
            try:
                async for event in self._ann.run_events(run_id, after):
                    if event.event == COMPLETE:
                        return
                    after = event.id
                    reading.seen.append(int(event.id or 0))
            except UnavailableError:
                self.count["readers that came back"] += 1
                await asyncio.sleep(READ_AGAIN_S)

    async def read_the_rest(self) -> None:
        """Let every reader come back once more, for what came late."""
        for reading in self._history.readings:
            if reading.stream_id is not None:
                await self._rest_of(reading)

    async def _rest_of(self, reading: Reading) -> None:
        while True:
            after = str(reading.seen[-1]) if reading.seen else None
            page = await self._ann.get(f"/runs/{reading.stream_id}/events", cursor=after, limit=100, stream="false")
            reading.seen += [int(event["version"]) for event in page["items"]]
            if len(page["items"]) < 100:
                return

    # deciding

    async def decide_for_ever(self) -> None:
        """Decide on what runs ask, and settle what became of writes whose worker was lost."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                for approval in await self._approvers[0].approvals():
                    await self._decide(approval)
                for run in await self._ann.runs(status=["waiting"], limit=100):
                    if run.waiting_for == "input":
                        await self._settle(run.id)
            except HeadraceError as problem:
                self.count[f"deciding: {problem.type}"] += 1

    async def _decide(self, approval: Any) -> None:
        drawn = ids.number(approval.id) % 100
        action = "reject" if drawn < REJECTED_PERCENT else "approve"
        for client in self._approvers[: approval.quorum]:
            try:
                await client.decide(approval, action)
            except HeadraceError as problem:
                self._asked("decide", LOG_APPROVALS, approval.id, status=getattr(problem, "status", None))
                return
            self._asked("decide", LOG_APPROVALS, approval.id, answer=b"")
            if action == "reject":
                return

    async def _settle(self, run_id: str) -> None:
        """Say what became of a write, as one who looked at the outside."""
        run = await self._ann.run(run_id)
        for waits in run.waiting:
            if waits["for"] != "input":
                continue
            known = waits["evidence"]
            acted = any(one.attempt_id == known["attempt_id"] for one in ledger.read(self._stand.ledger_file))
            drawn = ids.number(known["attempt_id"]) % 3
            answer = "happened" if acted else "give_up" if drawn == 0 else "not_happened"
            body = {"action": "settle", "step": known["step"], "answer": answer}
            if acted:
                body["output"] = {"value": 0}
            await self._ann.post(f"/runs/{run_id}", body, key=f"settle/{known['attempt_id']}/{answer}")
            self._asked("settle_outcome", LOG_RUNS, run_id)
            self.count[f"settled: {answer}"] += 1

    def _asked(
        self,
        kind: str,
        log: str,
        stream_id: str | None,
        *,
        status: int | None = 200,
        key: str | None = None,
        answer: bytes = b"",
    ) -> None:
        asked = Asked(
            kind=kind,
            log=log,
            at=self._stand.clock.now_ms(),
            status=status,
            key=key,
            stream_id=stream_id,
            answer=answer,
        )
        self._history.asked.append(asked)
        self._file.write(msgspec.json.encode(asked) + b"\n")
