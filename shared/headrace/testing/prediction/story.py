"""From what happened in the engine to what a simulation tells (pure but for the rows it is given)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from headrace import codec, ids
from headrace.codec import NULL
from headrace.events.base import ErrorInfo, Event
from headrace.events.runs import (
    ApprovalRequested,
    AttemptFailed,
    MapStarted,
    RunQueued,
    StepFailed,
    StepReady,
    StepSkipped,
    StepSucceeded,
    TimerStarted,
)
from headrace.events.steering import ChildStarted, LoopIterated, PermitQueued, WaitStarted
from headrace.plans.model import CallStep, LoopStep, Plan, PlanStep
from headrace.testing.prediction.stubs import Call
from headrace.testing.prediction.told import (
    ApprovalTold,
    EffectTold,
    HappeningTold,
    PermissionTold,
    StepTold,
    WaitTold,
)
from headrace.testing.prediction.walk import Happening
from headrace.vocabulary import Access, WaitingFor

LEFT_OUT: Final = frozenset(
    {
        "output",
        "outputs",
        "blob",
        "shown",
        "artifacts",
        "evidence",
        "inputs",
        "worker",
        "nonce",
        "arguments_digest",
        "started_at",
        "finished_at",
    }
)
"""What a happening does not repeat: results stand with their steps."""
NOT_ON_THE_WAY: Final = frozenset(
    {
        "write.claimed",
        "approval.received",
        "permit.requested",
        "child.ended",
        "run.watched",
        "wait.registered",
        "watch.confirmed",
    }
)
"""Events about how the engine works, which tell a reader of a prediction nothing."""
OPEN: Final = "nobody decides"
NOT_REACHED: Final = StepTold(step="", kind="").status


class Story:
    """What became of the steps of one run."""

    def __init__(self, run: str, plan: Plan) -> None:
        self.run, self.plan = run, plan
        self.steps = {step.id: StepTold(step=step.id, kind=step.shown_kind, run=run) for step in _all(plan)}
        self.order: list[str] = []
        self.bodies: dict[str, str] = {}
        """The digests of outputs that are kept as bodies of their own, by step."""
        self._bodies = {step.id: step.body.body for step in plan.steps if isinstance(step.body, LoopStep)}

    def told(self) -> list[StepTold]:
        """Give the steps in the order in which they began; those that did not come last."""
        rest = [step for step in self.steps if step not in self.order]
        undo = {step.id for step in self.plan.compensations}
        return [self.steps[step] for step in (*self.order, *(step for step in rest if step not in undo))]

    def take(self, at_s: float, event: Event) -> None:
        """Take an event in."""
        name = getattr(event, "step", "")
        if name not in self.steps:
            return
        known = self.steps[name]
        if not isinstance(event, StepReady) and name not in self.order:
            self.order.append(name)
        if known.began_s is None and not isinstance(event, StepReady):
            known.began_s = at_s
        if isinstance(event, LoopIterated):
            known.rounds = event.count
            self._anew(name)
        elif isinstance(event, MapStarted):
            known.items = event.count
        elif isinstance(event, ChildStarted):
            known.child = f"{self.run}{ids.instance(name, event.index, event.iteration)}/"
        elif isinstance(event, AttemptFailed):
            known.attempts = max(known.attempts, event.attempt)
        else:
            self._ended(known, at_s, event)

    def _ended(self, known: StepTold, at_s: float, event: Event) -> None:
        match event:
            case StepSkipped(reason=reason):
                known.status, known.reason, known.began_s = "skipped", reason, None
                self._without(known.step)
            case StepFailed(index=index, error=error):
                known.attempts = max(known.attempts, event.attempt)
                known.items_failed += index is not None
                known.error = _error(error)
                if index is None:
                    known.status, known.ended_s = event.status, at_s
                    self._without(known.step)
            case StepSucceeded(index=index, output=output, blob=blob):
                known.attempts = max(known.attempts, event.attempt)
                known.ended_s = at_s
                known.status = "succeeded"
                if index is None:
                    known.output = None if output == NULL else codec.loads(output)
                    self.bodies.pop(known.step, None)
                    if blob is not None:
                        self.bodies[known.step] = blob.digest
                    self._without(known.step)
            case _:
                if known.status == NOT_REACHED:
                    known.status = (
                        "waiting" if isinstance(event, TimerStarted | WaitStarted | ApprovalRequested) else "running"
                    )

    def _anew(self, loop: str) -> None:
        """Begin the body of a loop anew: what is told of its steps is what becomes of them in the last round."""
        for inner in self._bodies.get(loop, ()):
            self.steps[inner] = StepTold(step=inner, kind=self.steps[inner].kind, run=self.run)
            self.bodies.pop(inner, None)
            self._anew(inner)

    def _without(self, loop: str) -> None:
        """Skip the body of a loop that ended before its first round."""
        for inner in self._bodies.get(loop, ()):
            if self.steps[inner].status == NOT_REACHED:
                self.steps[inner].status, self.steps[inner].reason = "skipped", f"the loop {loop!r} ended without it"
                self.order += [inner] if inner not in self.order else []
                self._without(inner)


def _error(error: ErrorInfo) -> dict[str, str]:
    return {"type": error.type, "message": error.message}


def _all(plan: Plan) -> tuple[PlanStep, ...]:
    return (*plan.steps, *plan.compensations)


def effects(calls: Iterable[Call], path_of: Callable[[str], str]) -> list[EffectTold]:
    """Give the calls of tools in their order; gates judge, and are none."""
    return [
        EffectTold(
            run=path_of(call.run_id),
            step=ids.instance(call.step, call.index, call.iteration),
            tool=call.tool,
            effect=call.effect,
            access=call.access,
            arguments=call.arguments,
            attempt=call.attempt,
            made_up=call.made_up,
            error=call.error,
        )
        for call in calls
        if not call.tool.startswith("gate.")
    ]


def permissions(run: str, plan: Plan) -> list[PermissionTold]:
    """Give the gated tools of a plan, and what covers each."""
    found: list[PermissionTold] = []
    for step in _all(plan):
        pin = plan.tools.get(step.body.tool) if isinstance(step.body, CallStep) else None
        if pin is None or pin.access != Access.GATED or not isinstance(step.body, CallStep):
            continue
        cover = [f"the approval step {each}" for each in step.covered_by]
        if step.confirm:
            cover.append(f"the confirmation of {step.id}")
        if plan.authorization == "plan":
            cover = ["the authorisation of the plan"]
        elif not cover:
            cover = ["the approval of the whole run, or an authorisation of the plan for all runs"]
        found.append(PermissionTold(run=run, step=step.id, tool=step.body.tool, effect=pin.effect, covered_by=cover))
    return found


def approvals(
    happened: Iterable[Happening], decided: Mapping[str, str], path_of: Callable[[str], str]
) -> list[ApprovalTold]:
    """Give the approvals that would be asked for, in their order."""
    words = {"approve": "approved", "reject": "rejected"}
    return [
        ApprovalTold(
            run=path_of(each.run_id),
            step=ids.instance(event.step, None, event.iteration) if event.step else "",
            roles=list(event.roles),
            quorum=event.quorum,
            shown=codec.loads(event.shown),
            decision=words.get(decided.get(event.approval_id, ""), OPEN),
        )
        for each in happened
        if isinstance(event := each.event, ApprovalRequested)
    ]


def waits(happened: Iterable[Happening], given: set[tuple[str, str]], path_of: Callable[[str], str]) -> list[WaitTold]:
    """Give the waits of the runs, in their order."""
    found: list[WaitTold] = []
    for each in happened:
        event, run = each.event, path_of(each.run_id)
        match event:
            case TimerStarted(due_at=due):
                found.append(_wait(run, event, WaitingFor.TIMER, due, each.at_ms))
            case AttemptFailed(retry_at=due):
                found.append(_wait(run, event, WaitingFor.RETRY, due, each.at_ms))
            case WaitStarted(kind=kind, expires_at=due):
                told = _wait(run, event, kind, due, each.at_ms)
                told.name, told.given = event.name, (each.run_id, event.step) in given
                found.append(told)
            case PermitQueued(until=due):
                told = WaitTold(
                    run=run, step="", waits_for=WaitingFor.CONCURRENCY if due is None else WaitingFor.RATE_LIMIT
                )
                told.seconds = None if due is None else (due - each.at_ms) / 1_000
                found.append(told)
            case _:
                pass
    return found


def _wait(
    run: str, event: TimerStarted | WaitStarted | AttemptFailed, what: str, due: int | None, at_ms: int
) -> WaitTold:
    name = ids.instance(event.step, getattr(event, "index", None), event.iteration)
    seconds = None if due is None else (due - at_ms) / 1_000
    return WaitTold(run=run, step=name, waits_for=str(what), seconds=seconds)


def way(happened: Iterable[Happening], path_of: Callable[[str], str]) -> list[HappeningTold]:
    """Give what happens in order; items of maps stand with their steps."""
    return [
        HappeningTold(at_s=each.at_s, run=path_of(each.run_id), type=kind, data=_plain(each.event))
        for each in happened
        if (kind := each.event.type_name()) not in NOT_ON_THE_WAY and getattr(each.event, "index", None) is None
    ]


def _plain(event: Event) -> dict[str, Any]:
    written: dict[str, Any] = codec.loads(codec.encode(event)) if not isinstance(event, RunQueued) else _queued(event)
    return {name: value for name, value in written.items() if name not in LEFT_OUT and name != "type"}


def _queued(event: RunQueued) -> dict[str, Any]:
    return {"requester": {"name": event.requester.name}, "plan_digest": event.plan_digest}
