"""What happens to a shared key: who may hold it, who waits, who must make room (pure).

Requests are served by priority, and within one in the order in which they were asked. A rate limit counts the attempts
that were let begin within its period, whenever that is: at most `limit` in any `period_ms`.
"""

from collections.abc import Iterator, Sequence
from typing import assert_never

from headrace.decider import Context, Rejection
from headrace.errors import ConflictError, ValidationError
from headrace.events.flow import FlowEvent, PermitAsked, PermitGiven, PermitRecalled, PermitReceived, PermitReturned
from headrace.messages import Advance, FlowCommand, Wake
from headrace.steering import NotePermitReceived, ReleasePermit, RequestPermit
from headrace.vocabulary import BATCH_EVENTS_MAX
from headrace_planner.flow import uses
from headrace_planner.flow.bounds import USUAL, Bounds
from headrace_planner.flow.state import CONCURRENCY, QUEUE, RATE_LIMIT, REJECT, REPLACE, Flow

Decision = Sequence[FlowEvent] | Rejection


def decide(flow: Flow, command: FlowCommand, context: Context, bounds: Bounds = USUAL) -> Decision:
    """Say what a command does to a key."""
    match command:
        case RequestPermit():
            return _ask(flow, command, context)
        case NotePermitReceived(permit_id=permit_id, count=count):
            return (PermitReceived(permit_id=permit_id),) if _is_news(flow, permit_id, count, context.now) else ()
        case ReleasePermit(permit_id=permit_id):
            return (PermitReturned(permit_id=permit_id),) if permit_id in flow.permits else ()
        case Wake():
            return ()
        case Advance():
            return tuple(_given(flow, context.now)) or uses.ending(flow, context.now, bounds)
        case _:
            assert_never(command)


def _ask(flow: Flow, command: RequestPermit, context: Context) -> Decision:
    if command.permit_id in flow.permits:
        return ()
    problem = _problem(flow, command)
    if problem is not None:
        return Rejection(problem)
    ahead = flow.head()
    first = ahead is None or flow.permits[ahead].priority < command.priority
    free = flow.free(command.limit, command.period_ms, context.now) if first else 0
    if free <= 0 and command.on_conflict == REJECT:
        return ()  # refused by a receipt: whoever asks again is answered anew
    asked = PermitAsked(
        permit_id=command.permit_id,
        run_id=command.run_id,
        kind=command.kind,
        key=command.key,
        limit=command.limit,
        period_ms=command.period_ms,
        on_conflict=command.on_conflict,
        priority=command.priority,
        count=command.count,
    )
    if free > 0:
        return asked, PermitGiven(permit_id=command.permit_id, count=min(free, command.count))
    return asked, *(_recalled(flow, command) if command.on_conflict == REPLACE else ())


def _problem(flow: Flow, command: RequestPermit) -> ValidationError | ConflictError | None:
    """Say what is wrong with a request, whoever made it."""
    if command.kind not in {CONCURRENCY, RATE_LIMIT} or command.on_conflict not in {QUEUE, REJECT, REPLACE}:
        return ValidationError(f"no key is of kind {command.kind!r} with on_conflict {command.on_conflict!r}")
    if command.limit < 1 or command.count < 1 or (command.kind == RATE_LIMIT and command.period_ms < 1):
        return ValidationError(f"a limit of {command.limit} for {command.count} in {command.period_ms} ms is none")
    if command.kind == CONCURRENCY and command.count != 1:
        return ValidationError("a run holds a key once")
    if flow.kind and (flow.kind, flow.key) != (command.kind, command.key):
        return ConflictError(f"{flow.id} is the key {flow.key!r} of kind {flow.kind}, not {command.key!r}")
    return None


def _recalled(flow: Flow, command: RequestPermit) -> Iterator[PermitRecalled]:
    """Let the oldest make room, holders and those that wait, so that the newest comes next."""
    here = [permit_id for permit_id, permit in flow.permits.items() if not permit.recalled_for]
    for permit_id in here[: max(len(here) + 1 - command.limit, 0)]:
        yield PermitRecalled(permit_id=permit_id, for_run=command.run_id)


def _is_news(flow: Flow, permit_id: str, count: int, now: int) -> bool:
    """Tell whether a run's word changes anything: what it was given is on record, or it still holds the key."""
    permit = flow.permits.get(permit_id)
    if permit is None:
        return False
    since = flow.held.get(permit_id)
    confirmed = since is not None and now >= since + flow.confirm_ms
    return confirmed or (permit_id in flow.untold and count >= permit.given)


def _given(flow: Flow, now: int) -> Iterator[PermitGiven]:
    """Give to those who wait what is free: strictly in turn, so that nobody is overtaken for asking for more."""
    taken = 0
    for number, permit_id in enumerate(flow.waiting()):
        permit = flow.permits[permit_id]
        free = flow.free(permit.limit, permit.period_ms, now) - taken
        if free <= 0 or number == BATCH_EVENTS_MAX:
            return
        count = min(free, permit.lacking)
        taken += count
        yield PermitGiven(permit_id=permit_id, count=count)
        if count < permit.lacking:
            return
