"""The shell of triggers: each event starts its runs, and is brought to those that wait for it, before it is settled.

An event is settled when every run that it starts, and every wait that it ends, is committed, or when what is wrong with it is kept where
`headrace doctor` shows it. When the owner or the log does not answer it is not settled: the bus brings it again, and
the idempotency key of each run makes the repeat harmless.
"""

import asyncio
import logging
from functools import partial
from typing import Any, Final

import msgspec

from headrace import codec, ids
from headrace.bus.opening import until_open
from headrace.bus.port import Bus, Delivery
from headrace.clock import Clock
from headrace.errors import HeadraceError, RateLimitedError, UnavailableError, from_envelope
from headrace.events.base import Actor
from headrace.keys import COMMANDS, Keys
from headrace.log.port import Log, Parked
from headrace.messages import Answer, Command, CreateRun
from headrace.policy import TRIGGER_ROLES
from headrace.vocabulary import LOG_CATALOGUE, LOG_PARTITIONS, LOG_RUNS, Automation
from headrace_planner.catalogue.reading import Plans, all_rows
from headrace_planner.triggers.match import Refused, Start, Trigger, key, matches, read
from headrace_planner.triggers.waiters import Waiters

CREATES_IN_FLIGHT_MAX: Final = 64
CREATE_TIMEOUT_S: Final = 10.0
UNPROCESSABLE: Final = 422
LABEL_NAME: Final = "trigger"
LABEL_ID: Final = "trigger_id"

_answers = msgspec.json.Decoder(Answer)
_log = logging.getLogger(__name__)


class TriggerRouter:
    """Turns trigger events into runs of the workflows that declare them."""

    def __init__(self, log: Log, bus: Bus, keys: Keys, clock: Clock) -> None:
        self._log, self._bus, self._keys, self._clock = log, bus, keys, clock
        self._plans = Plans(log)
        self._waiters = Waiters(log, bus, keys)
        self._slots = asyncio.Semaphore(CREATES_IN_FLIGHT_MAX)
        self._workflows: tuple[object, list[dict[str, Any]]] = (None, [])

    async def run(self) -> None:
        """Receive events until cancelled."""
        subscription = await until_open(partial(self._bus.open_triggers, self.deliver), self._clock)
        try:
            await asyncio.Event().wait()
        finally:
            await subscription.close()

    async def deliver(self, delivery: Delivery) -> None:
        """Start an event's runs; returns when it may be settled, raises UnavailableError when it must come again."""
        name = delivery.subject
        try:
            trigger = read(
                name, delivery.data, message_id=delivery.message_id, sequence=delivery.sequence, at=delivery.at
            )
        except HeadraceError as problem:
            await self._park(delivery, f"trigger {name}: {problem.message}")
            return
        starts, refused = matches(trigger, await self._declared())
        waiting = await self._waiters.of(name)  # before it starts any: a run does not wait for what started it
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._start(trigger, start)) for start in starts]
            delivered = group.create_task(self._waiters.deliver(trigger, delivery.at, waiting))
        outcomes = [task.result() for task in tasks]
        for outcome in (*outcomes, *delivered.result()):
            if isinstance(outcome, UnavailableError):
                message = f"trigger {name} ({trigger.identity}) must come again: {outcome.message}"
                raise UnavailableError(message)
        for one in [*refused, *outcomes]:
            if isinstance(one, Refused):
                await self._park(delivery, f"trigger {name}: workflow {one.workflow}: {one.reason}", one.stream_id)
        for told in delivered.result():
            await self._park(delivery, f"trigger {name}: {told.message}")

    async def _start(self, trigger: Trigger, start: Start) -> Refused | UnavailableError | None:
        """Create one run and wait until it is committed; gives why not, when it is refused for good or for now."""
        name = start.workflow["name"]
        try:
            async with self._slots:
                plan = await self._plans.get(start.workflow["plan_digest"])
                if plan.automation == Automation.MANUAL:
                    _log.info("trigger %s starts no run of %s: automation is manual", trigger.name, name)
                    return None
                answer = await self._create(trigger, start)
        except UnavailableError as problem:
            return problem
        except HeadraceError as problem:
            return Refused(name, problem.message, start.workflow.get("id"))
        if answer.error is None or answer.status == UNPROCESSABLE:
            return None  # 422: the event started a run of an older version of the workflow already
        refusal = from_envelope({"type": answer.error.type, "message": answer.error.message})
        if isinstance(refusal, RateLimitedError):
            return UnavailableError(refusal.message)  # the event waits on the bus until the workspace has room
        return (
            refusal
            if isinstance(refusal, UnavailableError)
            else Refused(name, refusal.message, start.workflow.get("id"))
        )

    async def _create(self, trigger: Trigger, start: Start) -> Answer:
        row = start.workflow
        create = CreateRun(
            plan_digest=row["plan_digest"],
            inputs=codec.raw(start.inputs),
            workflow=row["name"],
            workflow_version=row["version"],
            trigger=codec.raw(trigger.content),
            priority=start.priority,
            labels={LABEL_NAME: trigger.name, LABEL_ID: trigger.identity},
        )
        under = key(trigger, row["name"])
        command = Command(
            body=codec.Raw(codec.encode(create)),
            actor=Actor(id=f"trigger:{trigger.name}", name=f"trigger {trigger.name}", roles=TRIGGER_ROLES),
            workspace=row["workspace"],
            key=under,
        )
        partition = ids.partition_for(LOG_PARTITIONS[LOG_RUNS], row["workspace"], under)
        sealed = self._keys.pack(COMMANDS, codec.encode(command))
        return _answers.decode(await self._bus.command(LOG_RUNS, partition, sealed, timeout_s=CREATE_TIMEOUT_S))

    async def _declared(self) -> list[dict[str, Any]]:
        """Give all workflows with triggers, read again when the catalogue has moved since."""
        held = await self._log.partitions()
        position = [part["last_position"] for part in held if part["log"] == LOG_CATALOGUE]
        known, workflows = self._workflows
        if known != position:
            rows = await all_rows(self._log, "workflows", {})
            workflows = [row for row in rows if row["triggers"]]
            self._workflows = position, workflows
        return workflows

    async def _park(self, delivery: Delivery, reason: str, stream_id: str | None = None) -> None:
        """Keep an event with why it did nothing; `stream_id` is the workflow's that it is about, whose workspace may see it."""
        _log.warning("%s; kept for `headrace doctor`", reason)
        now = self._clock.now_ms()
        parked = Parked(source="trigger", error=reason, body=delivery.data, at=now, stream_id=stream_id)
        await self._log.park(parked)
