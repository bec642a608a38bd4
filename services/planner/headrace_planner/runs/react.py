"""What a run sets going outside: orders, questions, stops (pure)."""

from collections.abc import Iterator

from headrace.decider import Dispatch, Effect, Library, MissingError, Stop, Tell
from headrace.errors import StepError, ValidationError
from headrace.events.runs import (
    ApprovalRequested,
    CancelRequested,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunSucceeded,
)
from headrace.messages import (
    NoteApprovalReceived,
    NoteOutcomeReceived,
    ResolveApproval,
    RunCommand,
    SupersedeApproval,
    Wake,
)
from headrace.vocabulary import LOG_APPROVALS, ApprovalStatus
from headrace.wire import Interrupt
from headrace_planner.runs import asks
from headrace_planner.runs.orders import order_for
from headrace_planner.runs.state import Ask, Run


def react(run: Run, event: RunEvent) -> Iterator[Effect]:
    """Give what an event sets going; orders come with `receipts`, once their arguments are known to resolve."""
    for instance, attempt in run.stopped:
        step_id, _ = instance
        interrupt = Interrupt(attempt_id=run.attempt_id(instance, attempt), reason=f"run {run.data.id} was stopped")
        yield Stop(interrupt, run.graph.pins[step_id].pool)
    if isinstance(event, ApprovalRequested):
        yield _tell(run, run.data.asks[event.approval_id])
    if isinstance(event, RunCancelled | RunFailed | RunSucceeded | CancelRequested):
        for ask in run.data.asks.values():
            if ask.status == ApprovalStatus.PENDING:
                yield _take_back(run, ask)


def receipts(run: Run, command: RunCommand, library: Library) -> Iterator[Effect]:
    """Give the orders that are ready to be sent, and the receipt that ends a gatekeeper's repeating."""
    while run.checked:
        instance = run.checked.pop()
        if not run.final and run.trial(instance) is not None:
            yield Dispatch(order_for(run, library, instance))
    if isinstance(command, ResolveApproval):
        yield Tell(LOG_APPROVALS, command.approval_id, NoteOutcomeReceived(), run.data.workspace)
    if isinstance(command, NoteApprovalReceived) and run.final and command.approval_id in run.data.asks:
        yield _take_back(run, run.data.asks[command.approval_id])  # the first word of it came before the question
    if isinstance(command, Wake) and run.exists and not run.final:
        for ask in run.data.asks.values():
            if not ask.received:
                yield _tell(run, ask)


def outstanding(run: Run, library: Library) -> Iterator[Effect]:
    """Give everything that should be under way now."""
    if not run.exists or run.final:
        return
    for instance in run.under_way():
        trial = run.trial(instance)
        if trial is None or trial.idle:
            continue
        try:
            yield Dispatch(order_for(run, library, instance))
        except (StepError, ValidationError, MissingError):
            run.unchecked.append(instance)  # `Advance` fails it, or fetches what it needs
    for ask in run.data.asks.values():
        if not ask.received:
            yield _tell(run, ask)


def _tell(run: Run, ask: Ask) -> Tell:
    return Tell(LOG_APPROVALS, ask.approval_id, asks.open_command(run, ask), run.data.workspace)


def _take_back(run: Run, ask: Ask) -> Tell:
    command = SupersedeApproval(reason=f"the run {run.data.status}")
    return Tell(LOG_APPROVALS, ask.approval_id, command, run.data.workspace)
