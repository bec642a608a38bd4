"""What a run did to the world, told from its history (pure): every claimed attempt, and what became of it."""

from collections.abc import Iterable
from typing import Any, Final, assert_never

from headrace import ids
from headrace.events.base import ErrorInfo
from headrace.events.runs import (
    AttemptFailed,
    LateResultKept,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunSucceeded,
    StepFailed,
    StepSucceeded,
    WriteClaimed,
)
from headrace.events.steering import OutcomeLost, OutcomeSettled
from headrace.plans.model import CallStep, Plan
from headrace.vocabulary import AttemptStatus, Effect
from headrace_api import views

UNDER_WAY: Final = "under_way"
DONE: Final = "done"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"
GIVEN_UP: Final = "given_up"
"""Nobody knows whether it happened, and a person has said that nobody will."""
type Ended = StepSucceeded | StepFailed | AttemptFailed | OutcomeLost | OutcomeSettled
HAPPENED: Final = "happened"
ANSWERED: Final = {HAPPENED: DONE, "not_happened": "not_happened", "give_up": GIVEN_UP, "failed": FAILED}


def effectful(plan: Plan) -> dict[str, tuple[str, str]]:
    """Give the steps of a plan that act on the world, with their tool and its effect."""
    steps = (*plan.steps, *plan.compensations)
    tools = {step.id: step.body.tool for step in steps if isinstance(step.body, CallStep)}
    return {
        step: (tool, plan.tools[tool].effect) for step, tool in tools.items() if plan.tools[tool].effect != Effect.READ
    }


class Effects:
    """Reads a run's events in their order. `listed` gives one entry for each claim, the oldest first.

    Of claims it takes `limit` and one more, which tells that there are others; each has its version as `views.AFTER`.
    """

    def __init__(self, run_id: str, plan: Plan, limit: int) -> None:
        self._run_id = run_id
        self._limit = limit
        self._acting = effectful(plan)
        self._entries: dict[str, dict[str, Any]] = {}

    @property
    def listed(self) -> list[dict[str, Any]]:
        """Give the effects."""
        return list(self._entries.values())

    @property
    def complete(self) -> bool:
        """Tell whether later events change nothing: all claims are there, and of those that are done no more is heard."""
        entries = list(self._entries.values())
        return len(entries) > self._limit and all(each["outcome"] == DONE for each in entries[: self._limit])

    def read(self, events: Iterable[tuple[int, int, RunEvent]]) -> None:
        """Take in events with their versions and times (milliseconds since 1970)."""
        parts = ((version, at, part) for version, at, whole in events for part in whole.parts)
        for version, at, event in parts:
            if isinstance(event, WriteClaimed):
                if len(self._entries) <= self._limit:
                    self._claimed(version, at, event)
            elif isinstance(event, StepSucceeded | StepFailed | AttemptFailed | OutcomeLost | OutcomeSettled):
                self._heard(at, event)
            elif isinstance(event, RunSucceeded | RunFailed | RunCancelled):
                self._left(at)
            elif isinstance(event, LateResultKept) and (entry := self._entries.get(event.attempt_id)) is not None:
                entry["late"] = {"status": event.status, "worker": event.worker, "at": views.at(at)}

    def _heard(self, at: int, event: Ended) -> None:
        """Take in what became of an attempt; and, with the question about an earlier one, how the newest failed."""
        entry = self._entries.get(event.attempt_id or "")
        if entry is not None:
            _ended(entry, at, event)
        if isinstance(event, OutcomeLost) and event.failure is not None:
            newest = self._entries.get(event.failure.attempt_id or "")
            if newest is not None and newest is not entry:
                _failed(newest, at, event.failure.error, event.failure.status)

    def _left(self, at: int) -> None:
        """Take note that the run is over: of what was under way nobody knows what became of it."""
        for entry in self._entries.values():
            if entry["outcome"] == UNDER_WAY:
                entry["outcome"], entry["ended_at"] = UNKNOWN, views.at(at)

    def _claimed(self, version: int, at: int, event: WriteClaimed) -> None:
        instance = ids.instance(event.step, event.index, event.iteration)
        tool, effect = self._acting.get(event.step, ("", ""))
        self._entries[event.attempt_id] = {
            "step": event.step,
            "instance": instance,
            "tool": tool,
            "effect": effect,
            "idempotency_key": f"{self._run_id}:{instance}",
            "attempt": event.attempt,
            "attempt_id": event.attempt_id,
            "worker": event.worker,
            "claimed_at": views.at(at),
            "ended_at": None,
            "arguments_digest": event.arguments_digest,
            "outcome": UNDER_WAY,
            "settled": None,
            "error": None,
            "late": None,
            views.AFTER: version,
        }


def _ended(entry: dict[str, Any], at: int, event: Ended) -> None:
    match event:
        case OutcomeLost():
            entry["outcome"], entry["ended_at"] = UNKNOWN, None
            return
        case OutcomeSettled(answer=answer, by=by, reason=reason):
            entry["outcome"] = ANSWERED.get(answer, answer)
            person = {"id": by.id, "name": by.name} if by else None
            entry["settled"] = {"answer": answer, "by": person, "reason": reason, "at": views.at(at)}
        case StepSucceeded():
            entry["outcome"] = DONE
        case StepFailed(error=error, status=status) | AttemptFailed(error=error, status=status):
            _failed(entry, at, error, status)
        case _:
            assert_never(event)
    entry["ended_at"] = views.at(at)


def _failed(entry: dict[str, Any], at: int, error: ErrorInfo, status: str) -> None:
    if entry["settled"] is None:
        entry["outcome"] = _outcome_of(error, status, entry["attempt"])
    entry["error"] = {"type": error.type, "message": error.message}
    entry["ended_at"] = views.at(at)


def _outcome_of(error: ErrorInfo, status: str, attempt: int) -> str:
    """Tell what a failure says of the act: a worker that was lost, or was cut off in the middle, leaves it unknown.

    What an error says of an earlier attempt is said of that one alone.
    """
    said = error.details.get("outcome") if error.details.get("attempt", attempt) == attempt else None
    if said == HAPPENED:
        return DONE  # though what it gave is of no use
    cut_off = status != AttemptStatus.FAILED or error.type in {"worker_lost", "cancelled", "timeout"}
    return UNKNOWN if said == UNKNOWN or cut_off else FAILED
