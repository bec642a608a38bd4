"""The shell of waits: brings a trigger's event to every run that waits for its name.

Promised is: an event that is published when a step's `wait.started` is decided, or later, ends that wait if its `when`
holds. So a run is brought the event from its beginning until the step is over, whether or not it waits already, and
says itself: it decides behind everything that it has decided before, also what is being committed. What comes earlier is
not kept. An event is settled only when every run has answered, so that it comes again when one could not.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from headrace import codec, ids
from headrace.bus.port import Bus
from headrace.errors import HeadraceError, NotFoundError, UnavailableError, from_envelope
from headrace.events.base import Actor
from headrace.keys import COMMANDS, Keys
from headrace.log.port import ReadLog
from headrace.messages import Answer, Command
from headrace.policy import TRIGGER_ROLES
from headrace.steering import DeliverEvent
from headrace.vocabulary import LOG_RUNS
from headrace_planner.catalogue.reading import all_rows
from headrace_planner.triggers.match import Trigger

DELIVERIES_IN_FLIGHT_MAX: Final = 64
DELIVER_TIMEOUT_S: Final = 10.0
SOURCE: Final = "trigger"

_answers = msgspec.json.Decoder(Answer)


class Waiting(msgspec.Struct, frozen=True, order=True):
    """A run that waits for an event, or may begin to."""

    run_id: str
    workspace: str


class Waiters:
    """Finds the runs that wait for an event of a trigger, and brings it to them."""

    def __init__(self, log: ReadLog, bus: Bus, keys: Keys) -> None:
        self._log, self._bus, self._keys = log, bus, keys
        self._slots = asyncio.Semaphore(DELIVERIES_IN_FLIGHT_MAX)

    async def of(self, name: str) -> list[Waiting]:
        """Give the runs to which an event of a name must be brought; raises UnavailableError."""
        rows = await all_rows(self._log, "waits", {"name": name, "open": True})
        return sorted({Waiting(row["run_id"], row["workspace"]) for row in rows})

    async def deliver(self, trigger: Trigger, at: int, waiting: Sequence[Waiting]) -> list[HeadraceError]:
        """Bring an event to runs, and wait until each has it on record; gives what could not be done.

        `at` is when the event was published. An UnavailableError among the results: the event must come again.
        """
        told = DeliverEvent(
            source=SOURCE, name=trigger.name, event_id=trigger.identity, at=at, data=codec.raw(trigger.subject)
        )
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._tell(told, one)) for one in waiting]
        return [problem for task in tasks if (problem := task.result()) is not None]

    async def _tell(self, told: DeliverEvent, one: Waiting) -> HeadraceError | None:
        command = Command(
            body=codec.Raw(codec.encode(told)),
            actor=Actor(id=f"trigger:{told.name}", name=f"trigger {told.name}", roles=TRIGGER_ROLES),
            workspace=one.workspace,
            stream_id=one.run_id,
        )
        sealed = self._keys.pack(COMMANDS, codec.encode(command))
        try:
            async with self._slots:
                partition = ids.partition_of(one.run_id)
                data = await self._bus.command(LOG_RUNS, partition, sealed, timeout_s=DELIVER_TIMEOUT_S)
        except UnavailableError as problem:
            return problem
        answer = _answers.decode(data)
        if answer.error is None:
            return None
        refusal = from_envelope({"type": answer.error.type, "message": answer.error.message})
        return None if isinstance(refusal, NotFoundError) else refusal  # the run was purged meanwhile
