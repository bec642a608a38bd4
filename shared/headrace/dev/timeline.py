"""A run's timeline, folded from its event stream alone: every step as it moves."""

from datetime import datetime
from typing import Any, Final

import msgspec
from rich.table import Table
from rich.text import Text

from headrace.client.streams import COMPLETE, Event
from headrace.events.parts import parts_of
from headrace.vocabulary import StepStatus

MAP_TOLD_AT: Final = 4
"""A map is told in quarters where lines are printed; a table shows every item."""
COLOURS: Final = {
    StepStatus.SUCCEEDED: "green",
    StepStatus.FAILED: "red",
    StepStatus.CANCELLED: "red",
    StepStatus.SKIPPED: "dim",
    StepStatus.WAITING: "yellow",
    StepStatus.RUNNING: "cyan",
}


class Step(msgspec.Struct):
    """A step as the events have told it so far."""

    name: str
    status: StepStatus = StepStatus.RUNNING
    note: str = ""
    total: int = 0
    done: int = 0
    began: float = 0.0
    ended: float | None = None


class Timeline:
    """What has been seen of one run. `see` gives a line where an event is worth one."""

    def __init__(self, expected: list[str] | None = None) -> None:
        self.steps: dict[str, Step] = {name: Step(name, status=StepStatus.PENDING) for name in expected or []}
        self.status = "queued"
        self.seconds = 0.0
        self._started: datetime | None = None

    def see(self, event: Event) -> str | None:
        """Remember an event; gives a line to print (of one that stands for several perhaps more), or None."""
        if event.event == COMPLETE:
            self.status = event.data["status"]
            return None
        at = datetime.fromisoformat(event.data["at"])
        self._started = self._started or at
        self.seconds = (at - self._started).total_seconds()
        parts = parts_of(event.event, event.data["data"])
        told = [said for kind, data in parts if (said := self._tell(kind, data)) is not None]
        return "\n".join(f"{self.seconds:7.2f} s  {said}" for said in told) or None

    def table(self) -> Table:
        """Show where every step stands."""
        table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left")
        for heading in ("step", "status", "seconds", ""):
            table.add_column(heading, justify="right" if heading == "seconds" else "left")
        for step in self.steps.values():
            colour = COLOURS.get(step.status, "dim")
            items = f"{step.done}/{step.total} items" if step.total else ""
            spent = f"{step.ended - step.began:.2f}" if step.ended is not None else ""
            told = "  ".join(part for part in (items, step.note) if part)
            table.add_row(step.name, Text(step.status, style=colour), spent, told)
        return table

    def _tell(self, kind: str, data: dict[str, Any]) -> str | None:
        """Say what an event means for people, and remember it."""
        match kind:
            case "run.queued":
                return "run queued"
            case "run.started":
                self.status = "running"
                return "run started"
            case "map.started":
                return self._map(data)
            case "step.succeeded" if data.get("index") is not None:
                return self._item(data)
            case "step.succeeded" | "step.failed" | "step.skipped":
                return self._over(kind, data)
            case "approval.requested":
                return self._waits(data, f"an approval by {' or '.join(data.get('roles', ['approver']))}")
            case "approval.resolved":
                people = ", ".join(person["name"] for person in data.get("by", ()))
                return f"{data.get('step') or 'run'}: {data['status']} by {people or 'nobody'}"
            case "timer.started":
                return self._waits(data, "a timer")
            case "write.claimed":
                self._step(data).note = "claimed before acting"
                return f"{data['step']}: permission to write recorded before it is used"
            case "attempt.failed":
                return f"{data['step']}: attempt {data['attempt']} {data['status']}, another follows"
            case "run.succeeded" | "run.failed" | "run.cancelled":
                self.status = kind.removeprefix("run.")
                return f"run {self.status}"
            case _:
                return None

    def _step(self, data: dict[str, Any]) -> Step:
        step = self.steps.setdefault(data["step"], Step(data["step"]))
        if step.status is StepStatus.PENDING:
            step.status, step.began = StepStatus.RUNNING, self.seconds
        return step

    def _map(self, data: dict[str, Any]) -> str:
        step = self._step(data)
        step.total, step.began = data["count"], self.seconds
        return f"{step.name}: {step.total} items to do"

    def _item(self, data: dict[str, Any]) -> str | None:
        step = self._step(data)
        step.done += 1
        told = max(step.total // MAP_TOLD_AT, 1)
        return f"{step.name}: {step.done} of {step.total} items" if step.done % told == 0 else None

    def _over(self, kind: str, data: dict[str, Any]) -> str:
        step = self._step(data)
        step.status, step.ended = StepStatus(kind.removeprefix("step.")), self.seconds
        if data.get("started_at") and data.get("finished_at"):
            step.began = step.ended - (data["finished_at"] - data["started_at"]) / 1000
        step.note = data["error"]["message"] if "error" in data else str(data.get("reason", ""))
        return f"{step.name}: {step.status}" + (f" ({step.note})" if step.note else "")

    def _waits(self, data: dict[str, Any], what: str) -> str:
        if not data.get("step"):
            return f"the run waits for {what}"
        step = self._step(data)
        step.status, step.note = StepStatus.WAITING, f"for {what}"
        return f"{step.name}: waits for {what}"
