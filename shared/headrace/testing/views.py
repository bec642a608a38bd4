"""How the engine shows a run: a handle that always says how the run stands now."""

from collections.abc import Coroutine, Sequence
from typing import Any, Final, Protocol

import msgspec

from headrace import codec
from headrace.codec import Raw
from headrace.errors import NotFoundError, from_envelope
from headrace.events import registry
from headrace.events.base import Event
from headrace.events.runs import RunSucceeded
from headrace.log.memory import MemoryLog
from headrace.vocabulary import LOG_RUNS, RUN_FINAL, RunStatus

WAIT_S: Final = 120.0
STEPS_MAX: Final = 1_000
EVENTS_MAX: Final = 100_000


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """A step that has begun or is over. `output` is whole, also when it was too large for its row."""

    id: str
    status: str
    attempt: int
    output: Any = None
    error_type: str | None = None
    error_message: str | None = None
    worker: str | None = None


class Waiter(Protocol):
    """Who lets virtual time go on until a run has a status."""

    log: MemoryLog

    async def wait(self, run: "Run | str", *statuses: str, seconds: float = WAIT_S) -> "Run":
        """Wait until a run has one of the statuses; raises AssertionError when it never has."""
        ...


class Run:
    """A run in the engine: what it says is read at that moment, from the rows and events that everybody else reads."""

    def __init__(self, engine: Waiter, id: str) -> None:
        self._engine = engine
        self.id = id

    def __repr__(self) -> str:
        steps = ", ".join(f"{step.id} {step.status}" for step in self.steps.values())
        why = f", waits for {self.waiting_for}" if self.waiting_for else ""
        why += f", {self.error_type}: {self.error_message}" if self.error_type else ""
        return f"<run {self.id} {self.status}{why}; {steps or 'no step has begun'}>"

    @property
    def row(self) -> dict[str, Any]:
        """Give the run's projection row; raises NotFoundError."""
        row = at_once(self._engine.log.row("runs", {"id": self.id}))
        if row is None:
            message = f"there is no run {self.id}"
            raise NotFoundError(message)
        return row

    @property
    def status(self) -> str:
        """Give one of the words of `RunStatus`."""
        return str(self.row["status"])

    @property
    def waiting_for(self) -> str | None:
        """Tell what a waiting run waits for, in a word of `WaitingFor`."""
        waits: str | None = self.row["waiting_for"]
        return waits

    @property
    def error_type(self) -> str | None:
        """Give the type of the error that a failed run ended with."""
        kind: str | None = self.row["error_type"]
        return kind

    @property
    def error_message(self) -> str | None:
        """Give the message of the error that a failed run ended with."""
        message: str | None = self.row["error_message"]
        return message

    @property
    def outputs(self) -> Any:
        """Give the outputs of a succeeded run, None before."""
        shown = plain((self.row["detail"] or {}).get("outputs"))
        if shown is not None or self.status != RunStatus.SUCCEEDED:
            return shown
        return next((codec.loads(event.outputs) for event in self.history if isinstance(event, RunSucceeded)), None)

    @property
    def history(self) -> list[Event]:
        """Give all events of the run, in order."""
        found = at_once(self._engine.log.stream(LOG_RUNS, self.id, limit=EVENTS_MAX))
        return [registry.read(recorded) for recorded in found]

    @property
    def events(self) -> list[str]:
        """Give the names of all events of the run, in order, such as `run.queued`."""
        return [event.type_name() for event in self.history]

    @property
    def steps(self) -> dict[str, StepView]:
        """Give the steps that have begun or are over, in the order of the plan."""
        rows = at_once(
            self._engine.log.rows("steps", {"run_id": self.id}, order="ordinal", descending=False, limit=STEPS_MAX)
        )
        return {row["step"]: self._step_view(row) for row in rows}

    def step(self, id: str) -> StepView:
        """Give one step; raises NotFoundError that names those that have begun."""
        steps = self.steps
        if id not in steps:
            message = f"no step {id!r} of run {self.id} has begun; begun are: {', '.join(steps) or 'none'}"
            raise NotFoundError(message)
        return steps[id]

    async def until(self, *statuses: str, seconds: float = WAIT_S) -> "Run":
        """Wait until the run has one of the statuses (any final one by default), at most some virtual seconds.

        Raises AssertionError, saying how the run stands, when it ended otherwise or did not get there. A timer longer
        than `seconds` is not waited for: `pass_time` lets that much time go by.
        """
        return await self._engine.wait(self, *statuses, seconds=seconds)

    async def result(self) -> Any:
        """Wait for the end and give the outputs; raises the error that a failed or cancelled run ended with."""
        await self.until()
        row = self.row
        if row["status"] == RunStatus.SUCCEEDED:
            return self.outputs
        raise from_envelope({"type": row["error_type"] or row["status"], "message": row["error_message"]})

    def _step_view(self, row: dict[str, Any]) -> StepView:
        output = plain(row["output"])
        if row["blob"]:
            output = codec.loads(at_once(self._engine.log.get_blobs([row["blob"]]))[row["blob"]])
        return StepView(
            id=row["step"],
            status=row["status"],
            attempt=row["attempt"] or 0,
            output=output,
            error_type=row["error_type"],
            error_message=row["error_message"],
            worker=row["worker"],
        )


def at_once[Result](asked: Coroutine[Any, Any, Result]) -> Result:
    """Give what a coroutine of the memory log returns: it never waits for anything."""
    try:
        asked.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    asked.close()
    message = "the memory log answers at once; this one waits"
    raise RuntimeError(message)


def plain(value: Any) -> Any:
    """Read what may still be written JSON."""
    return codec.loads(value) if isinstance(value, Raw) else value


def final(statuses: Sequence[str]) -> set[str]:
    """Give the statuses that are meant: any final one when none is named; raises ValueError for an unknown word."""
    unknown = set(statuses).difference(RunStatus)
    if unknown:
        message = f"no run is ever {', '.join(sorted(unknown))}; the words are: {', '.join(RunStatus)}"
        raise ValueError(message)
    return set(statuses or RUN_FINAL)
