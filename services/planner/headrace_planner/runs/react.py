"""What a run sets going outside: orders, questions, stops (pure)."""

from collections.abc import Iterator, Sequence
from typing import Final

from headrace.decider import Dispatch, Effect, Keep, Library, MissingError, Stop, Tell
from headrace.errors import StepError, ValidationError
from headrace.events.runs import (
    ApprovalRequested,
    CancelRequested,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunSucceeded,
)
from headrace.events.steering import ArtifactsKept, CompensationStarted, ItemsKept, WorkKept
from headrace.messages import (
    Advance,
    CreateRun,
    NoteApprovalReceived,
    NoteOutcomeReceived,
    ReportAttempt,
    ResolveApproval,
    RunCommand,
    Wake,
)
from headrace.vocabulary import LOG_APPROVALS, ApprovalStatus
from headrace.wire import Interrupt
from headrace_planner.runs import asks, children, fusion, holding, parents, permits, watches
from headrace_planner.runs.kept import Ask
from headrace_planner.runs.limits import queue_until
from headrace_planner.runs.orders import order_for
from headrace_planner.runs.state import Instance, Run

STOPPING: Final = frozenset({RunCancelled, RunFailed, RunSucceeded, CancelRequested, CompensationStarted})
"""By which a run needs no answers any more."""


def react(run: Run, event: RunEvent) -> Sequence[Effect]:
    """Give what an event sets going; orders come with `receipts`, once their arguments are known to resolve."""
    if not run.apart or run.stopped or run.bodies or run.data.paused is not None:
        return list(_reactions(run, event))
    if not run.data.asks:
        return ()
    if type(event) is ApprovalRequested:
        return (_tell(run, run.data.asks[event.approval_id]),)
    return [_take_back(run, ask) for ask in run.asked()] if type(event) in STOPPING else ()


def _reactions(run: Run, event: RunEvent) -> Iterator[Effect]:
    for instance, attempt in run.stopped:
        step_id, _ = instance
        interrupt = Interrupt(attempt_id=run.attempt_id(instance, attempt), reason=f"run {run.data.id} was stopped")
        yield Stop(
            interrupt, run.graph.pins[step_id].pool, confirm=isinstance(event, CancelRequested | CompensationStarted)
        )
    if isinstance(event, ItemsKept | ArtifactsKept | WorkKept) and event.piece.digest in run.bodies:
        yield Keep({event.piece.digest: run.bodies.pop(event.piece.digest)})  # two pieces may be alike
    if isinstance(event, ApprovalRequested):
        yield _tell(run, run.data.asks[event.approval_id])
    yield from permits.told_to_keys(run, event)
    yield from children.dismissed(run, event)
    yield from holding.spread(run, event)
    yield from parents.ended(run, event)
    yield from watches.spread(run, event)
    yield from fusion.unchained(run, event)
    if type(event) in STOPPING:
        for ask in run.asked():
            yield _take_back(run, ask)


def receipts(run: Run, command: RunCommand, library: Library) -> Sequence[Effect]:
    """Give the orders that are ready to be sent, and the receipt that ends a gatekeeper's repeating."""
    orders = list(_orders(run, library)) if run.checked else []
    if type(command) is Advance:
        return orders
    if type(command) is ReportAttempt:
        fusion.carry(run, command)
        return orders
    return [*orders, *_receipts(run, command)]


def _orders(run: Run, library: Library) -> Iterator[Effect]:
    while run.checked:
        instance = run.checked.pop()
        trial = None if run.final else run.trial(instance)
        if trial is not None and trial.child is not None:
            yield from children.create(run, library, instance)
        elif trial is not None:
            yield _dispatch(run, library, instance)


def _receipts(run: Run, command: RunCommand) -> Iterator[Effect]:
    if type(command) is CreateRun:
        yield from parents.receipts(run, command)
    elif type(command) is ResolveApproval:
        yield Tell(LOG_APPROVALS, command.approval_id, NoteOutcomeReceived(), run.data.workspace)
    elif type(command) is NoteApprovalReceived:
        ask = run.data.asks.get(command.approval_id)
        if ask is not None and (run.halted or ask.status == ApprovalStatus.SUPERSEDED):
            yield _take_back(run, ask)  # the first word of it came before the question
    elif type(command) is Wake:
        if run.exists:
            yield from _again(run)
    elif isinstance(command, permits.FromKey):
        yield from permits.receipts(run, command)
    else:
        yield from children.receipts(run, command)
        yield from holding.receipts(run, command)
        if isinstance(command, watches.BetweenRuns):
            yield from watches.receipts(run, command)


def outstanding(run: Run, library: Library) -> Iterator[Effect]:
    """Give everything that should be under way now."""
    if not run.exists:
        return
    yield from _again(run)
    if run.final:
        return
    for instance in run.under_way():
        trial = run.trial(instance)
        if trial is None or trial.idle:
            continue
        try:
            yield _dispatch(run, library, instance)
        except (StepError, ValidationError, MissingError):
            run.unchecked.append(instance)  # `Advance` fails it, or fetches what it needs


def _dispatch(run: Run, library: Library, instance: Instance) -> Dispatch:
    trial = run.trial(instance)
    assert trial is not None, "only what is under way has an order"
    order = order_for(run, library, instance)
    held_by = run.carried.pop(order.attempt_id, "")
    if not held_by and instance[0] in run.graph.follows:
        order = fusion.chained(run, library, instance, order)
    waits = run.data.look_at is not None
    return Dispatch(order, run.queued.priority, queue_until(run, instance, trial), held_by, waits)


def _again(run: Run) -> Iterator[Tell]:
    """Give the questions, and the questions taken back, that nobody confirmed yet; and the requests to keys."""
    yield from permits.again(run)
    yield from children.again(run)
    yield from holding.again(run)
    yield from parents.again(run)
    yield from watches.again(run)
    for ask in asks.unheard(run):
        yield _take_back(run, ask) if run.halted else _tell(run, ask)


def _tell(run: Run, ask: Ask) -> Tell:
    return Tell(LOG_APPROVALS, ask.approval_id, asks.open_command(run, ask), run.data.workspace)


def _take_back(run: Run, ask: Ask) -> Tell:
    return Tell(LOG_APPROVALS, ask.approval_id, asks.take_back(run, ask), run.data.workspace)
