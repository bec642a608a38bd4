"""A process that sleeps past its lease and wakes again does no harm: others went on, and nothing is done twice."""

import asyncio
import json
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
import pytest_asyncio

from headrace.client.client import Client
from headrace.client.views import Approval, Run
from headrace.errors import NotFoundError
from tests.runner.http_server import Answer, Seen, serving
from tests.system.kit import Command, Site, beside, installation, owners, shares, until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ITEMS = 12
SLOTS = 4
HELD_S_MAX = 90.0
WRITES = f"""
apiVersion: headrace/v1
kind: Workflow
metadata: {{name: writes}}
spec:
  inputs: {{name: {{type: string}}, url: {{type: string}}}}
  steps:
    - id: write
      map: "{{{{ {list(range(ITEMS))} }}}}"
      tool: http_write
      with: {{url: "{{{{ inputs.url }}}}", timeout_s: {HELD_S_MAX:.0f}, body: "{{{{ inputs.name + '/' + string(item) }}}}"}}
    - id: total
      transform: "{{{{ size(steps.write.output) }}}}"
"""
READ = f"""
apiVersion: headrace/v1
kind: Workflow
metadata: {{name: read}}
spec:
  inputs: {{url: {{type: string}}}}
  steps:
    - id: read
      tool: http
      with: {{url: "{{{{ inputs.url }}}}", timeout_s: {HELD_S_MAX:.0f}}}
"""
WRITE = f"""
apiVersion: headrace/v1
kind: Workflow
metadata: {{name: write}}
spec:
  inputs: {{url: {{type: string}}}}
  steps:
    - id: write
      tool: http_write
      with: {{url: "{{{{ inputs.url }}}}", timeout_s: {HELD_S_MAX:.0f}, body: "once"}}
      timeout: 10m
"""


class Ledger:
    """A server outside of headrace that writes down each effect it is asked for, and can hold its answers back."""

    def __init__(self, *, held_s_max: float = HELD_S_MAX) -> None:
        self._held_s_max = held_s_max
        self.open = threading.Event()
        self.open.set()
        self.entries: list[str] = []
        self._turn = threading.Lock()
        with_server = serving(self._answer)
        self._server = with_server

    def __enter__(self) -> Self:
        self.server = self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self._server.__exit__(None, None, None)

    def _answer(self, seen: Seen) -> Answer:
        with self._turn:
            number = len(self.entries)
            self.entries.append(json.loads(seen.body) if seen.body[:1] == b'"' else seen.body.decode())
        self.open.wait(self._held_s_max)
        return 200, {"content-type": "application/json"}, json.dumps({"number": number}).encode()

    def callers(self, *processes: psutil.Process) -> list[psutil.Process]:
        """Give those processes that are connected to it now."""
        port = self.server.port
        return [
            process
            for process in processes
            if any(
                link.status == psutil.CONN_ESTABLISHED and link.raddr.port == port for link in process.net_connections()
            )
        ]


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger() as given:
        yield given


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Give an installation that may call loopback addresses."""
    folder, root = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("root")
    env = {"HEADRACE_ALLOW_PRIVATE_ADDRESSES": "1", "MAX_CONCURRENT": str(SLOTS)}
    async with installation(folder, root, **env) as given:
        yield given


async def authorized(site: Site, client: Client, spec: str) -> str:
    """Record a plan and have every run of it authorised by somebody else; gives its digest."""
    digest = str((await client.record_plan(spec))["digest"])
    asked = await client.request_authorization(digest)
    token = await client.create_token(f"grace of {digest}", ["approver"])
    async with site.up.client(token["token"]) as grace:

        async def asks() -> Approval | None:
            with suppress(NotFoundError):  # it is opened by another owner, and soon
                return await grace.approval(asked["approval_id"])
            return None

        await grace.decide(await until(asks, "the approval to be opened"), "approve")

    async def approved() -> bool:
        return bool((await client.plan(digest))["authorization"]["status"] == "approved")

    await until(approved, "the plan to be authorised")
    return digest


async def verified(site: Site, folder: Path) -> None:
    """See that every chain of the log holds, and that all rows are those that the log makes."""
    for verb, key, wanted in (("verify", "holds", True), ("rebuild", "changed", 0)):
        command = Command(folder / verb, "db", verb, "-o", "json", HEADRACE_DATA_DIR=str(site.up.home))
        code = await command.ended(60)
        assert (code, json.loads(command.said)[key]) == (0, wanted), command.said


async def kept_late(site: Site, run: Run) -> list[dict[str, Any]]:
    """Wait for what came after the end of a run's step, and give it."""

    async def look() -> list[dict[str, Any]]:
        rows = await site.rows(
            "select data from headrace.events where stream_id = $1 and type = 'attempt.late'", run.id
        )
        return [json.loads(row["data"]) for row in rows]

    found: list[dict[str, Any]] = await until(look, "the late result to be kept", 30)
    return found


async def test_a_planner_stopped_past_its_lease_wakes_beside_its_successor_and_nothing_is_done_twice(
    site: Site, ledger: Ledger, tmp_path: Path
) -> None:
    (first_owner,) = await shares(site, 8)
    first = site.up.service("planner")
    with beside(site, "planner") as second:
        await shares(site, 4, 4)
        async with site.up.client() as client:
            digest = await authorized(site, client, WRITES)
            runs = [await created(client, digest, ledger, name) for name in "abcdef"]
            await until(lambda: len(ledger.entries) > SLOTS, "work to be in flight")
            ledger.open.clear()
            of_first = await site.rows(
                "select 1 from headrace.runs r join headrace.partitions p on p.log = 'runs' and p.partition = r.partition"
                " where p.owner = $1 and r.status = 'running'",
                first_owner,
            )
            stopped, other = (first, second) if len(of_first) >= len(runs) / 2 else (second, first)
            stopped.send_signal(signal.SIGSTOP)
            async with asyncio.TaskGroup() as group:
                late = [group.create_task(created(client, digest, ledger, f"late-{number}")) for number in range(8)]
                (successor,) = await shares(site, 8)
                ledger.open.set()
            stopped.send_signal(signal.SIGCONT)
            assert (successor == first_owner) == (other is first)
            for run in [*runs, *(task.result() for task in late)]:
                await site.finished(client, run.id)
        await shares(site, 4, 4)
        assert {each.status() for each in (first, second)}.isdisjoint({psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED})
        assert site.up.service("planner") == first, "it was not started anew"
        assert set(await owners(site)) >= {first_owner}
    wanted = {f"{name}/{item}": 1 for name in [*"abcdef", *(f"late-{n}" for n in range(8))] for item in range(ITEMS)}
    assert Counter(ledger.entries) == wanted
    assert len(await site.rows("select 1 from headrace.runs")) == 6 + 8
    await verified(site, tmp_path)
    for log in ("planner", "second_planner"):
        assert "Traceback" not in site.up.log_of(log), site.up.log_of(log)


async def created(client: Client, digest: str, ledger: Ledger, name: str) -> Run:
    """Create a run that writes to the ledger, under a key of its own."""
    return await client.create_run(
        plan_digest=digest, inputs={"name": name, "url": ledger.server.url}, key=f"writes-{name}"
    )


async def test_a_runner_stopped_in_the_middle_of_a_read_is_replaced_and_its_late_result_changes_nothing(
    site: Site, ledger: Ledger, tmp_path: Path
) -> None:
    first = site.up.service("runner")
    with beside(site, "runner") as second:
        ledger.open.clear()
        async with site.up.client() as client:
            run = await client.create_run(spec=READ, inputs={"url": ledger.server.url})
            (stopped,) = await until(lambda: ledger.callers(first, second), "a runner to read")
            await until(lambda: held(client), "its beat to tell what it holds")
            stopped.send_signal(signal.SIGSTOP)
            await until(lambda: len(ledger.entries) == 2, "the read to be tried again", 60)
            ledger.open.set()
            events = await site.finished(client, run.id)
            before = await client.result(run.id)
            stopped.send_signal(signal.SIGCONT)
            (late,) = await kept_late(site, run)
            assert late["attempt"] == 1
            assert await client.result(run.id) == before
    (lost,) = [event.data["data"] for event in events if event.event == "attempt.failed"]
    assert (lost["error"]["type"], lost["status"]) == ("worker_lost", "lost")
    (done,) = [event.data["data"] for event in events if event.event == "step.succeeded"]
    assert (done["attempt"], done["output"]["body"]["number"]) == (2, 1)
    assert done["worker"] != late["worker"]
    await verified(site, tmp_path)


async def held(client: Client) -> list[dict[str, Any]]:
    """Give what workers say they hold."""
    workers = [worker async for worker in client.pages("/workers")]
    return [each for worker in workers for each in worker["holding"]]


async def test_a_runner_stopped_in_the_middle_of_a_write_leaves_its_outcome_open_until_it_wakes_and_writes_once(
    site: Site, ledger: Ledger, tmp_path: Path
) -> None:
    first = site.up.service("runner")
    with beside(site, "runner") as second:
        ledger.open.clear()
        async with site.up.client() as client:
            digest = await authorized(site, client, WRITE)
            run = await client.create_run(plan_digest=digest, inputs={"url": ledger.server.url})
            (stopped,) = await until(lambda: ledger.callers(first, second), "a runner to write")
            await until(lambda: held(client), "its beat to tell what it holds")
            stopped.send_signal(signal.SIGSTOP)
            async with asyncio.timeout(60):
                async for event in client.run_events(run.id):
                    if event.event == "outcome.lost":
                        break
            assert (await client.run(run.id)).status == "waiting"
            ledger.open.set()
            probe = await client.create_run(spec=READ, inputs={"url": ledger.server.url})
            await site.finished(client, probe.id)
            assert (await client.run(run.id)).status == "waiting", "others go on, nobody writes again"
            stopped.send_signal(signal.SIGCONT)
            events = await site.finished(client, run.id)
    (settled,) = [event.data["data"] for event in events if event.event == "outcome.settled"]
    assert settled["answer"] == "happened"
    assert len([event for event in events if event.event == "write.claimed"]) == 1
    assert ledger.entries.count("once") == 1
    await verified(site, tmp_path)
