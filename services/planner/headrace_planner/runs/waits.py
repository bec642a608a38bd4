"""Waits: a step that ends with a signal, an event that triggers publish, or an event of another run (pure).

Signals are kept until a step takes them, the oldest first. A trigger's event is not kept: it ends the waits that have
begun when the run hears of it, and whose `when` is true for it. `when` is evaluated here, by the run that waits.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from headrace import codec, ids
from headrace.codec import Raw
from headrace.decider import Context, Library, Reason, Rejection, Row
from headrace.errors import ConflictError, HeadraceError, StepError, UnprocessableError, ValidationError
from headrace.events.base import BlobRef, ErrorInfo
from headrace.events.runs import RunEvent, RunQueued, StepFailed, StepSucceeded
from headrace.events.steering import SignalReceived, WaitStarted
from headrace.plans.model import PlanStep, WaitStep
from headrace.policy import may
from headrace.steering import DeliverEvent, SignalRun
from headrace.vocabulary import (
    INLINE_BYTES_MAX,
    LOG_PARTITIONS,
    LOG_RUNS,
    PREVIEW_CHARS,
    SIGNALS_KEPT_MAX,
    AttemptStatus,
    StepStatus,
    WaitingFor,
)
from headrace_planner.runs.graph import Graph
from headrace_planner.runs.instances import hold
from headrace_planner.runs.kept import Signal, Wait
from headrace_planner.runs.limits import timeout_error
from headrace_planner.runs.orders import scope_of
from headrace_planner.runs.scope import MISSING_KEY, truth
from headrace_planner.runs.state import Run

SIGNAL: Final = "signal"
TRIGGER: Final = "trigger"
RUN: Final = "run"
TAKEN_MAX: Final = 2 * SIGNALS_KEPT_MAX
"""Ids of taken signals and events that are remembered, so that a repeat of one changes nothing."""


# --- what happens ------------------------------------------------------------------------------------------------


def begin(run: Run, step: PlanStep, body: WaitStep, context: Context, library: Library) -> Sequence[RunEvent]:
    """Begin to wait; raises StepError when the run that is waited for is none."""
    kind, name, run_id = (SIGNAL, body.signal, None) if body.signal is not None else (TRIGGER, body.event, None)
    if body.of_run is not None:
        found = run.graph.template(step.id, "of_run", body.of_run).resolve(scope_of(run, library, (step.id, None)))
        kind, run_id = RUN, _run_id(run, step.id, found)
    expires_at = None if body.expires_s is None else context.now + int(body.expires_s * 1000)
    return (
        WaitStarted(step=step.id, kind=kind, name=name or "", when=body.when, run_id=run_id, expires_at=expires_at),
    )


def _run_id(run: Run, step_id: str, found: Any) -> str:
    try:
        known = isinstance(found, str) and found.startswith(f"{ids.RUN}_")
        known = known and ids.partition_of(found) < LOG_PARTITIONS[LOG_RUNS]
    except ValidationError:
        known = False
    if not known:
        given = repr(found) if isinstance(found, str) else codec.written(found)
        message = f"step {step_id!r} waits for the run {given}, and that is no run's id"
        raise StepError(message, type="validation_error", details={"run_id": found})
    if found == run.data.id:
        message = f"step {step_id!r} waits for its own run, which would never end"
        raise StepError(message, type="validation_error", details={"run_id": found})
    return str(found)


def signal(run: Run, command: SignalRun, context: Context) -> Sequence[RunEvent] | Rejection:
    """Keep a signal for the step that waits for it, or will. Again: nothing."""
    may(context.actor, "run")
    data = run.data
    if command.signal_id in data.taken or any(kept.signal_id == command.signal_id for kept in data.signals):
        return ()
    if run.final:
        return Rejection(ConflictError(f"the run is over: {data.status}", details={"status": str(data.status)}))
    if run.halted:
        ending = "is being cancelled" if data.undo is None else "is over but for what undoes its steps"
        message = f"nothing of the run takes a signal any more: it {ending}"
        return Rejection(ConflictError(message, details={"status": str(data.status)}))
    known = sorted({wait.signal for _, wait in run.graph.waits if wait.signal is not None})
    if command.name not in known:
        there = f"it waits for: {', '.join(known)}" if known else "no step of it waits for one"
        message = f"no step of the run waits for a signal {command.name!r}; {there}"
        return Rejection(UnprocessableError(message, details={"field": "name", "name": command.name, "known": known}))
    size = len(bytes(command.data))
    if size > INLINE_BYTES_MAX:
        return Rejection(
            ValidationError(f"a signal carries {INLINE_BYTES_MAX} bytes at most, not {size}", details={"field": "data"})
        )
    if len(data.signals) >= SIGNALS_KEPT_MAX:
        message = f"{SIGNALS_KEPT_MAX} signals of the run wait to be taken already; no more are kept"
        return Rejection(ConflictError(message, details={"kept": len(data.signals), "limit": SIGNALS_KEPT_MAX}))
    return (SignalReceived(signal_id=command.signal_id, name=command.name, by=context.actor, data=command.data),)


def waiting(run: Run, kind: str) -> Iterator[tuple[str, Wait]]:
    """Give the steps that wait for something of a kind, in the order in which they began to."""
    for step_id, known in run.going():
        if known.wait is not None and known.wait.kind == kind and known.status == StepStatus.WAITING:
            yield step_id, known.wait


def answered(run: Run) -> Iterator[RunEvent]:
    """End the first wait for which a signal is kept, with the oldest one."""
    if not run.data.signals:
        return
    for step_id, wait in waiting(run, SIGNAL):
        kept = next((one for one in run.data.signals if one.name == wait.name), None)
        if kept is not None:
            output = {"name": kept.name, "data": codec.loads(kept.data), "by": kept.by.name, "at": kept.at}
            began = run.peek(step_id).started_at
            yield StepSucceeded(step=step_id, output=codec.raw(output), started_at=began, event_id=kept.signal_id)
            return


def deliver(run: Run, command: DeliverEvent, library: Library) -> Sequence[RunEvent] | Rejection:
    """End the waits that an event of a trigger is meant for. Again, or not waited for: nothing.

    An event for which a `when` cannot be evaluated ends nothing, and is refused, so that its sender keeps it for people.
    """
    if run.halted or command.event_id in run.data.taken:
        return ()
    found: list[RunEvent] = []
    problem: HeadraceError | None = None
    for step_id, wait in waiting(run, TRIGGER):
        try:
            meant = wait.name == command.name and meets(run, step_id, wait, command, library)
        except StepError as refusal:
            problem = StepError(f"step {step_id!r} of run {run.data.id}: {refusal.message}", type=refusal.type)
            continue
        if meant:
            found.append(ended(run, step_id, command))
    return Rejection(problem) if problem is not None and not found else found


def meets(run: Run, step_id: str, wait: Wait, command: DeliverEvent, library: Library) -> bool:
    """Tell whether a wait's `when` holds for an event; one that asks for what the event has not does not hold.

    Raises StepError when it cannot be evaluated otherwise.
    """
    if wait.when is None:
        return True
    try:
        return truth(run, library, step_id, wait.when, {"event": codec.loads(command.data)})
    except StepError as problem:
        if str(problem.details.get("reason", "")).startswith(MISSING_KEY):
            return False
        raise


def ended(run: Run, step_id: str, command: DeliverEvent) -> StepSucceeded:
    """Give the end of a wait by an event."""
    output, began = output_of(command), run.peek(step_id).started_at
    body = bytes(output)
    if len(body) <= INLINE_BYTES_MAX:
        return StepSucceeded(step=step_id, output=output, started_at=began, event_id=command.event_id)
    preview = body[:PREVIEW_CHARS].decode("utf-8", "replace")
    large = BlobRef(digest=codec.sha256(body), size_bytes=len(body), preview=preview)
    return StepSucceeded(step=step_id, blob=large, started_at=began, event_id=command.event_id)


def output_of(command: DeliverEvent) -> Raw:
    """Give what a wait gives that an event ends: its name, its id, when it was published, and what it is about."""
    about = {"name": command.name, "id": command.event_id, "at": command.at, "data": codec.loads(command.data)}
    return codec.raw(about if command.run_id is None else {**about, "run_id": command.run_id})


def attachments(command: DeliverEvent) -> Mapping[str, bytes]:
    """Give the body of a large output, which is stored with the event that names it."""
    body = bytes(output_of(command))
    return {codec.sha256(body): body} if len(body) > INLINE_BYTES_MAX else {}


def expired(run: Run, now: int) -> Iterator[RunEvent]:
    """Give the end of every wait whose time is over."""
    for step_id, known in run.going():
        wait = known.wait
        if wait is None or wait.expires_at is None or wait.expires_at > now or known.status != StepStatus.WAITING:
            continue
        who, limit_s = run.label((step_id, None)), (wait.expires_at - (known.started_at or now)) / 1000
        message = f"{who} waited {limit_s:g} s for {_what(wait)}, and it did not come"
        yield failed(run, step_id, timeout_error("wait", limit_s, who, message, waited_for=_what(wait)))


def failed(run: Run, step_id: str, error: ErrorInfo) -> StepFailed:
    """Give the end of a wait that is given up."""
    continued = run.graph.index[step_id].on_error == "continue"
    status = AttemptStatus.TIMED_OUT if error.type == "timeout" else AttemptStatus.FAILED
    began = run.peek(step_id).started_at
    return StepFailed(step=step_id, error=error, status=status, continued=continued, started_at=began)


def _what(wait: Wait) -> str:
    if wait.kind == SIGNAL:
        return f"the signal {wait.name!r}"
    if wait.kind == TRIGGER:
        return f"the event {wait.name!r}"
    return f"{wait.name or 'the end'} of run {wait.run_id}"


# --- what is remembered (for `evolve` alone) ---------------------------------------------------------------------


def remember(run: Run, event: WaitStarted | SignalReceived, at: int) -> None:
    """Remember that a step waits, or keep a signal."""
    if isinstance(event, WaitStarted):
        hold(run, event.step, at).wait = Wait(
            kind=event.kind, name=event.name, when=event.when, run_id=event.run_id, expires_at=event.expires_at
        )
        return
    run.data.signals.append(Signal(signal_id=event.signal_id, name=event.name, by=event.by, at=at, data=event.data))


def taken(run: Run, event: StepSucceeded) -> None:
    """Remember which signal or event ended a wait."""
    if event.event_id is None:
        return
    run.data.signals = [kept for kept in run.data.signals if kept.signal_id != event.event_id]
    run.data.taken.append(event.event_id)
    del run.data.taken[:-TAKEN_MAX]


# --- what people and the router see ------------------------------------------------------------------------------


def rows(run: Run, events: Sequence[RunEvent] | None, changed: Sequence[str]) -> Iterator[Row]:
    """Give a row for each step that waits for a trigger's event: `open` while it may still begin to, or does.

    It is open from the run's beginning, so that an event which comes while `wait.started` is being committed is brought
    to the run all the same, behind that commit.
    """
    whole = events is None or run.final or any(isinstance(event, RunQueued) for event in events)
    for step_id, wait in run.graph.waits:
        outermost = _outermost(run.graph, step_id)
        if wait.event is None or wait.of_run is not None or not (whole or outermost in changed):
            continue
        columns = {
            "id": f"{run.data.id}/{step_id}",
            "run_id": run.data.id,
            "step": step_id,
            "workspace": run.data.workspace,
            "name": wait.event,
            "open": not run.final and not run.over(outermost),
        }
        yield Row("waits", columns)


def _outermost(graph: Graph, step_id: str) -> str:
    while graph.index[step_id].parent:
        step_id = graph.index[step_id].parent
    return step_id


def shown(run: Run) -> Iterator[dict[str, Any]]:
    """Give what the run waits for, of signals and events, as its row shows it."""
    for step_id, known in run.going():
        wait = known.wait
        if wait is None or known.status != StepStatus.WAITING:
            continue
        yield {
            "step": step_id,
            "for": str(WaitingFor.SIGNAL if wait.kind == SIGNAL else WaitingFor.EVENT),
            "until": wait.expires_at,
            "approval_id": None,
            "message": _what(wait) + (f" for which {wait.when}" if wait.when else ""),
            "name": wait.name,
            "run_id": wait.run_id,
        }


def reasons(run: Run) -> Iterator[Reason]:
    """Say which signals and events are waited for, and what would bring them."""
    for wait in shown(run):
        message = f"Step {wait['step']!r} waits for {wait['message']}."
        yield Reason(wait["for"], message, remedy_of(run.data.id, wait), wait["step"], wait["until"])


def remedy_of(run_id: str, wait: Mapping[str, Any]) -> str:
    """Say what would end a wait."""
    if wait["for"] == WaitingFor.SIGNAL:
        return f"headrace runs signal {run_id} {wait['name']}"
    if wait["run_id"] is not None:
        return f"headrace runs explain {wait['run_id']}"
    return f"headrace trigger {wait['name']}, or publish to headrace.trigger.{wait['name']}"
