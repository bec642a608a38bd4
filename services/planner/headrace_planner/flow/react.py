"""What a shared key sets going: runs are told what they were given, again until they have it on record (pure)."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, assert_never

from headrace.decider import Effect, Tell
from headrace.envelope import Message
from headrace.events.flow import (
    FlowEvent,
    KeyContinued,
    KeyEnded,
    PermitAsked,
    PermitGiven,
    PermitRecalled,
    PermitReceived,
    PermitReturned,
)
from headrace.messages import Advance, FlowCommand, Wake
from headrace.steering import (
    ConfirmPermit,
    GrantPermit,
    NotePermitQueued,
    NotePermitReceived,
    RefusePermit,
    ReleasePermit,
    RequestPermit,
    YieldPermit,
)
from headrace.vocabulary import BATCH_EVENTS_MAX, LOG_RUNS, TELL_REPEAT_S
from headrace_planner.flow.bounds import USUAL, Bounds
from headrace_planner.flow.state import Flow
from headrace_planner.flow.uses import rests_at

HOLDERS_TOLD_MAX: Final = 5
REPEAT_MS: Final = int(TELL_REPEAT_S * 1000)


def react(flow: Flow, event: FlowEvent) -> Iterable[Effect]:
    """Say what an event sets going, given the state after it."""
    match event:
        case PermitGiven(permit_id=permit_id):
            return (_grant(flow, permit_id),)
        case PermitRecalled(permit_id=permit_id):
            return (_recall(flow, permit_id),)
        case PermitAsked() | PermitReceived() | PermitReturned() | KeyEnded() | KeyContinued():
            return ()
        case _:
            assert_never(event)


def receipts(flow: Flow, command: FlowCommand, now: int) -> Iterable[Effect]:
    """Say what a command earns, also when it repeats another."""
    match command:
        case RequestPermit():
            return _answered(flow, command)
        case Wake():
            return list(_repeated(flow, now))
        case NotePermitReceived() | ReleasePermit() | Advance():
            return ()
        case _:
            assert_never(command)


def outstanding(flow: Flow) -> Iterable[Effect]:
    """Give everything that runs have not confirmed."""
    if flow.over:
        return ()
    return [
        *(_grant(flow, permit_id) for permit_id in flow.untold),
        *(_recall(flow, permit_id) for permit_id in flow.recalled),
    ]


def wake_at(flow: Flow, bounds: Bounds = USUAL) -> int | None:
    """Give when the key wants to be woken: to say something again, to ask a holder, when it has room, or to end."""
    if flow.over:
        return None
    times = [since + REPEAT_MS for kept in (flow.untold, flow.recalled) for since in islice(kept.values(), 1)]
    times.extend(since + flow.confirm_ms for since in islice(flow.held.values(), 1))
    others = (flow.opens_at(), rests_at(flow, bounds))
    return min([*times, *(at for at in others if at is not None)], default=None)


def _answered(flow: Flow, command: RequestPermit) -> Iterable[Effect]:
    permit = flow.permits.get(command.permit_id)
    held_by = tuple(flow.holders(HOLDERS_TOLD_MAX))
    if permit is None:
        refused = RefusePermit(permit_id=command.permit_id, held_by=held_by)
        return (Tell(LOG_RUNS, command.run_id, refused, flow.workspace),)
    if permit.recalled_for:
        return (_recall(flow, command.permit_id),)
    if permit.lacking > 0:
        queued = NotePermitQueued(permit_id=command.permit_id, held_by=held_by, until=flow.opens_at())
        return (Tell(LOG_RUNS, permit.run_id, queued, flow.workspace),)
    return () if command.permit_id in flow.untold else (_grant(flow, command.permit_id),)


def _repeated(flow: Flow, now: int) -> Iterator[Effect]:
    for permit_id, since in islice(flow.untold.items(), BATCH_EVENTS_MAX):
        if since + REPEAT_MS <= now:
            yield _grant(flow, permit_id)
    for permit_id, since in islice(flow.recalled.items(), BATCH_EVENTS_MAX):
        if since + REPEAT_MS <= now:
            yield _recall(flow, permit_id)
    for permit_id, since in islice(flow.held.items(), BATCH_EVENTS_MAX):
        if since + flow.confirm_ms > now:
            return
        yield _tell(flow, permit_id, ConfirmPermit(permit_id=permit_id, flow_id=flow.address))


def _grant(flow: Flow, permit_id: str) -> Tell:
    count = flow.permits[permit_id].given
    return _tell(flow, permit_id, GrantPermit(permit_id=permit_id, count=count, flow_id=flow.address))


def _recall(flow: Flow, permit_id: str) -> Tell:
    for_run = flow.permits[permit_id].recalled_for
    return _tell(flow, permit_id, YieldPermit(permit_id=permit_id, for_run=for_run, flow_id=flow.address))


def _tell(flow: Flow, permit_id: str, command: Message) -> Tell:
    return Tell(LOG_RUNS, flow.permits[permit_id].run_id, command, flow.workspace)
