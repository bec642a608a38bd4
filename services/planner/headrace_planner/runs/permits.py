"""Permits: what a run, or its attempts, may only do when a key that many runs share lets them (pure).

The run asks the key (log `flow`) again and again until it has a receipt; the key says what it gives until the run has
that on record. A run holds its concurrency key until it is over and then gives it back; what is lost on the way heals,
because the key asks its holders now and then and a run that is over answers everything with giving back. A run asks a
rate limit for some of its attempts at a time, and for the next ones when these may begin.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final, assert_never

from headrace import codec, ids
from headrace.decider import Context, Library, Reason, Tell
from headrace.errors import StepError, ValidationError
from headrace.events.base import ErrorInfo
from headrace.events.runs import RunCancelled, RunEvent, RunFailed, RunSucceeded
from headrace.events.steering import PermitGranted, PermitQueued, PermitRefused, PermitRequested
from headrace.plans.model import Concurrency
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
from headrace.vocabulary import FLOW_KEY_CHARS_MAX, LOG_FLOW, PERMITS_ASKED_MAX, RunStatus, WaitingFor
from headrace_planner.runs.instances import free_all, let_begin
from headrace_planner.runs.kept import Permit
from headrace_planner.runs.quotas import quota_of
from headrace_planner.runs.scope import RunScope, told
from headrace_planner.runs.state import Run

CONCURRENCY: Final = str(WaitingFor.CONCURRENCY)
RATE_LIMIT: Final = str(WaitingFor.RATE_LIMIT)
NO_KEY: Final = ""
"""The permit of a run whose key is null: it shares none."""

FromKey = NotePermitQueued | GrantPermit | RefusePermit | YieldPermit | ConfirmPermit


# --- what is decided ---------------------------------------------------------------------------------------------


def ask_key(run: Run, context: Context, library: Library) -> Sequence[RunEvent]:
    """Ask for the run's concurrency key, once; nothing of the run begins before."""
    concurrency = run.graph.plan.concurrency
    if concurrency is None or run.resting or held_key(run) is not None:
        return ()
    try:
        key = _key(run, concurrency, library)
    except (StepError, ValidationError) as problem:
        return (RunFailed(error=told(problem)),)
    if key is None:
        return (PermitGranted(permit_id=NO_KEY),)
    flow_id = ids.flow_key(run.data.workspace, CONCURRENCY, key)
    return (
        PermitRequested(
            permit_id=_permit_id(run, flow_id, context),
            flow_id=flow_id,
            kind=CONCURRENCY,
            key=key,
            limit=concurrency.limit,
            on_conflict=concurrency.on_conflict,
        ),
    )


def _key(run: Run, concurrency: Concurrency, library: Library) -> str | None:
    value = run.graph.template("", "concurrency.key", concurrency.key).resolve(RunScope(run, library))
    if value is None:
        return None
    key = value if isinstance(value, str) else codec.canonical(value).decode()
    if not key.strip() or len(key) > FLOW_KEY_CHARS_MAX:
        message = (
            f"concurrency: the key has 1 to {FLOW_KEY_CHARS_MAX} characters, and this run's has {len(key.strip())}"
        )
        raise ValidationError(message, details={"key": key[:FLOW_KEY_CHARS_MAX]})
    return key


def ask_limits(run: Run, context: Context) -> Sequence[RunEvent]:
    """Ask each rate limit for the first of the attempts that wait for it, unless it is asked already."""
    if not run.data.limited or (run.resting and run.data.undo is None):
        return ()
    asked = {permit.flow_id for permit in run.data.permits.values()}
    return tuple(_for_attempts(run, flow_id, context) for flow_id in run.data.limited if flow_id not in asked)


def _for_attempts(run: Run, flow_id: str, context: Context) -> PermitRequested:
    waiting = run.data.limited[flow_id]
    step_id, index = waiting[0]
    quota, trial = quota_of(run, step_id), run.trial(waiting[0])
    assert quota is not None and trial is not None, "what waits for a limit is open and has one"  # noqa: PT018  (one thought)
    return PermitRequested(
        permit_id=_permit_id(run, flow_id, context),
        flow_id=flow_id,
        kind=RATE_LIMIT,
        key=quota.key,
        limit=quota.limit,
        period_ms=quota.period_ms,
        step=step_id,
        index=index,
        attempt=trial.attempt,
        count=min(len(waiting), quota.limit, PERMITS_ASKED_MAX),
    )


def _permit_id(run: Run, flow_id: str, context: Context) -> str:
    partition = ids.partition_of(run.data.id)
    return ids.derive(ids.PERMIT, context.now, partition, run.data.id, flow_id, str(run.data.permits_asked))


def hear(run: Run, command: FromKey) -> Sequence[RunEvent]:
    """Write down what a key says. Making room is a cancel: see `yields`."""
    permit = run.data.permits.get(command.permit_id)
    if permit is None or run.final:
        return ()
    match command:
        case NotePermitQueued(permit_id=permit_id, held_by=held_by, until=until):
            parent = run.queued.parent
            if parent is not None and held_by and not permit.granted and {*held_by} <= {parent.run_id, *parent.above}:
                alone = held_by == (parent.run_id,)
                whose = (
                    "its parent, which waits for it" if alone else "the runs that it is a child of, which wait for it"
                )
                return (RunFailed(error=_taken(permit, held_by, f": {whose}")),)
            return () if permit.received else (PermitQueued(permit_id=permit_id, held_by=held_by, until=until),)
        case GrantPermit(permit_id=permit_id, count=count):
            more = min(count, permit.count) - permit.granted
            return (PermitGranted(permit_id=permit_id, count=more),) if more > 0 else ()
        case RefusePermit(permit_id=permit_id, held_by=held_by):
            if permit.granted or permit.kind != CONCURRENCY:
                return ()  # a rate limit never refuses: it is asked again
            return PermitRefused(permit_id=permit_id, held_by=held_by), RunFailed(error=_taken(permit, held_by))
        case YieldPermit() | ConfirmPermit():
            return ()
        case _:
            assert_never(command)


def _taken(permit: Permit, held_by: tuple[str, ...], why: str = "") -> ErrorInfo:
    message = f"the concurrency key {permit.key!r} is taken ({_at_once(permit)}): held by {', '.join(held_by)}{why}"
    details = {"key": permit.key, "limit": permit.limit, "held_by": list(held_by), "on_conflict": permit.on_conflict}
    return ErrorInfo(type="concurrency_limit", message=message, details=details)


def yields(run: Run, command: YieldPermit) -> str | None:
    """Say why the run must end to make room; None when it need not."""
    permit = run.data.permits.get(command.permit_id)
    if permit is None or run.final or run.data.cancel is not None or run.data.undo is not None:
        return None
    return f"replaced by run {command.for_run}, which has the same concurrency key {permit.key!r}"


# --- what is remembered (for `evolve` alone) ---------------------------------------------------------------------


def remember(run: Run, event: PermitRequested | PermitQueued | PermitGranted | PermitRefused, at: int) -> None:
    """Remember what was asked of a key, and what it said."""
    data = run.data
    match event:
        case PermitRequested():
            data.permits_asked += 1
            data.permits[event.permit_id] = Permit(
                flow_id=event.flow_id,
                kind=event.kind,
                key=event.key,
                limit=event.limit,
                period_ms=event.period_ms,
                on_conflict=event.on_conflict,
                count=event.count,
                asked_at=at,
            )
            if event.kind == CONCURRENCY and data.status == RunStatus.RUNNING:
                data.status = RunStatus.QUEUED  # a person has started it, and now it stands in line
        case PermitQueued(permit_id=permit_id, held_by=held_by, until=until):
            permit = data.permits[permit_id]
            permit.received, permit.held_by, permit.until = True, held_by, until
        case PermitGranted(permit_id=permit_id, count=count):
            _granted(run, permit_id, count)
        case PermitRefused(permit_id=permit_id):
            data.permits.pop(permit_id, None)
        case _:
            assert_never(event)


def _granted(run: Run, permit_id: str, count: int) -> None:
    permit = run.data.permits.get(permit_id)
    if permit is not None:
        permit.received = True
        permit.granted += count
    if permit is None or permit.kind == CONCURRENCY:
        run.data.admitted = True
        if run.data.started_at is not None and run.data.status == RunStatus.QUEUED:
            run.data.status = RunStatus.RUNNING
        free_all(run)
        return
    if permit.granted >= permit.count:
        del run.data.permits[permit_id]
    if run.data.paused is None:  # what is let begin while the run is paused is let go: it asks again
        for instance in run.data.limited.get(permit.flow_id, [])[:count]:
            let_begin(run, instance)


def stands_in_line(run: Run) -> bool:
    """Tell whether the run waits for its concurrency key."""
    return run.data.begun and not run.final and run.graph.plan.concurrency is not None and not run.data.admitted


def held_key(run: Run) -> Permit | None:
    """Give the run's request for its concurrency key, granted or not."""
    return next((permit for permit in run.data.permits.values() if permit.kind == CONCURRENCY), None)


# --- what is set going -------------------------------------------------------------------------------------------


def told_to_keys(run: Run, event: RunEvent) -> Iterator[Tell]:
    """Give what an event says to keys: requests, and at the end everything back."""
    if isinstance(event, PermitRequested):
        yield _request(run, event.permit_id, run.data.permits[event.permit_id])
    if isinstance(event, RunCancelled | RunFailed | RunSucceeded):
        for permit_id, permit in run.data.permits.items():
            yield _release(run, permit_id, permit.flow_id)


def again(run: Run) -> Iterator[Tell]:
    """Give the requests that no key has confirmed yet."""
    for permit_id, permit in unheard(run):
        yield _request(run, permit_id, permit)


def unheard(run: Run) -> list[tuple[str, Permit]]:
    """Give the requests that no key has confirmed yet."""
    if run.final:
        return []
    return [(permit_id, permit) for permit_id, permit in run.data.permits.items() if not permit.received]


def receipts(run: Run, command: FromKey) -> Iterator[Tell]:
    """Answer a key: what is on record, or, of a run that is over or knows nothing of it, that it is given back."""
    permit = run.data.permits.get(command.permit_id)
    match command:
        case NotePermitQueued(permit_id=permit_id):
            if run.final and permit is not None:
                yield _release(run, permit_id, permit.flow_id)
        case YieldPermit(permit_id=permit_id, flow_id=flow_id):
            if run.final or not run.exists:
                yield _release(run, permit_id, flow_id)
        case GrantPermit(permit_id=permit_id, flow_id=flow_id) | ConfirmPermit(permit_id=permit_id, flow_id=flow_id):
            if run.final or permit is None:
                yield _release(run, permit_id, flow_id)
            else:
                count = command.count if isinstance(command, GrantPermit) else permit.granted
                received = NotePermitReceived(permit_id=permit_id, count=count)
                yield Tell(LOG_FLOW, flow_id, received, run.data.workspace)
        case RefusePermit():
            return
        case _:
            assert_never(command)


def _request(run: Run, permit_id: str, permit: Permit) -> Tell:
    request = RequestPermit(
        permit_id=permit_id,
        run_id=run.data.id,
        kind=permit.kind,
        key=permit.key,
        limit=permit.limit,
        period_ms=permit.period_ms,
        on_conflict=permit.on_conflict,
        priority=run.queued.priority,
        asked_at=permit.asked_at,
        count=permit.count,
    )
    return Tell(LOG_FLOW, permit.flow_id, request, run.data.workspace)


def _release(run: Run, permit_id: str, flow_id: str) -> Tell:
    return Tell(LOG_FLOW, flow_id, ReleasePermit(permit_id=permit_id), run.data.workspace)


# --- what people see ---------------------------------------------------------------------------------------------


def waits(run: Run) -> Iterator[dict[str, object]]:
    """Give what the run waits for, of keys, as its row shows it."""
    if stands_in_line(run) and not run.halted:
        permit = held_key(run)
        yield {
            "step": None,
            "for": CONCURRENCY,
            "until": None,
            "approval_id": None,
            "message": "its turn" if permit is None else _in_line(permit),
            "flow_id": permit.flow_id if permit else None,
            "held_by": list(permit.held_by) if permit else [],
            "limit": permit.limit if permit else None,
        }
    by_flow = {permit.flow_id: permit for permit in run.data.permits.values()} if run.data.limited else {}
    for flow_id, waiting in run.data.limited.items():
        for step_id, number in Counter(map(itemgetter(0), waiting)).items():
            quota, known = quota_of(run, step_id), by_flow.get(flow_id)
            if quota is not None:
                count = "1 attempt" if number == 1 else f"{number} attempts"
                many = f"{quota.limit} in {quota.period_ms / 1000:g} s"
                yield {
                    "step": step_id,
                    "for": RATE_LIMIT,
                    "until": known.until if known else None,
                    "approval_id": None,
                    "message": f"{count}: the rate limit of {quota.key} ({many})",
                    "flow_id": flow_id,
                }


def reasons(run: Run) -> Iterator[Reason]:
    """Say what the run waits for, of keys, and what would move it."""
    for wait in waits(run):
        until = wait["until"]
        held_by = wait.get("held_by")
        remedy = "nothing to do: it goes on when the rate limit has room"
        if wait["for"] == CONCURRENCY:
            remedy = "nothing to do: it goes on when a run that holds the key is over"
            if isinstance(held_by, list) and held_by:
                remedy += f"; or `headrace runs cancel {held_by[0]}`"
        message = f"Waiting for {wait['message']}."
        step = wait["step"]
        yield Reason(
            str(wait["for"]),
            message,
            remedy,
            step=step if isinstance(step, str) else None,
            until=until if isinstance(until, int) else None,
        )


def _in_line(permit: Permit) -> str:
    holders = f", held by run {', '.join(permit.held_by)}" if permit.held_by else ""
    return f"the concurrency key {permit.key!r} ({_at_once(permit)}){holders}"


def _at_once(permit: Permit) -> str:
    return "one run at a time" if permit.limit == 1 else f"{permit.limit} runs at a time"
