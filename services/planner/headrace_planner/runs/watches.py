"""Runs that wait for each other: one has its wait on record in the other's stream, which tells it what happens (pure).

The run that waits says `WatchRun` until the other has it on record, or is over and says so at once. Events are told,
each until it is confirmed, and the end after all others. Whoever waits no more confirms with `over`, and is forgotten.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, assert_never

from headrace import codec, ids
from headrace.codec import Raw
from headrace.decider import Library, Tell
from headrace.errors import NotFoundError, StepError, ValidationError
from headrace.events.base import ErrorInfo
from headrace.events.runs import RunEvent
from headrace.events.steering import RunWatched, WaitRegistered, WaitStarted, WatchConfirmed
from headrace.steering import DeliverEvent, NoteEventReceived, NoteWatched, WatchRun
from headrace.vocabulary import INLINE_BYTES_MAX, LOG_RUNS, RunStatus
from headrace_planner.runs.kept import Heard, Wait, Watch
from headrace_planner.runs.scope import told
from headrace_planner.runs.state import Run
from headrace_planner.runs.waits import RUN, ended, failed, meets, waiting

WATCHES_MAX: Final = 1_000
"""Waits that one run tells of its events."""
PENDING_MAX: Final = 1_000
"""Events that a waiting run may leave unconfirmed; with more the wait is given up."""
LARGE: Final = ("output", "outputs", "artifacts", "evidence", "shown")
BetweenRuns = WatchRun | NoteWatched | NoteEventReceived | DeliverEvent


# --- of the run that waits ---------------------------------------------------------------------------------------


def watch_id(run: Run, step_id: str) -> str:
    """Name a wait: the run, the step, and its round."""
    return f"{run.data.id}:{run.label((step_id, None))}"


def _waits_as(run: Run, wanted: str) -> tuple[str, Wait] | None:
    return next(((step, wait) for step, wait in waiting(run, RUN) if watch_id(run, step) == wanted), None)


def registered(run: Run, command: NoteWatched) -> Sequence[RunEvent]:
    """The other run has the wait on record, or says why not. Again: nothing."""
    found = _waits_as(run, command.watch_id)
    if found is None or run.halted:
        return ()
    step_id, wait = found
    if command.refused:
        message = f"step {step_id!r} waits for run {wait.run_id}: {command.refused}{_perhaps_away(run, wait, command)}"
        kind = command.refused_type or NotFoundError.type
        return (failed(run, step_id, ErrorInfo(type=kind, message=message, details={"run_id": wait.run_id})),)
    return () if wait.registered else (WaitRegistered(step=step_id, run_id=wait.run_id or ""),)


def _perhaps_away(run: Run, wait: Wait, command: NoteWatched) -> str:
    """Name the month that an unknown run may have left with: an earlier one, since none leaves while a run of it waits."""
    try:
        month = ids.month_of(wait.run_id or "")
    except ValidationError:
        return ""
    if command.refused_type != NotFoundError.type or month >= ids.month_of(run.data.id):
        return ""
    return f"; if it was one of {ids.month_text(month)}, that month may have left the log (`headrace db months`)"


def hear(run: Run, command: DeliverEvent, library: Library) -> Sequence[RunEvent]:
    """Judge an event of the run that is waited for; its end ends the wait, one way or the other."""
    found = _waits_as(run, command.watch_id)
    if found is None or run.halted:
        return ()
    step_id, wait = found
    wanted = wait.name == command.name or (command.over and not wait.name)
    try:
        if wanted and meets(run, step_id, wait, command, library):
            return (ended(run, step_id, command),)
    except StepError as problem:
        return (failed(run, step_id, told(problem)),)
    if not command.over:
        return ()
    what = wait.name or "end"
    when = f" for which {wait.when}" if wait.when else ""
    message = f"run {wait.run_id} is over ({command.name}), and there was no {what}{when}"
    return (failed(run, step_id, ErrorInfo(type="execution_error", message=message, details={"run_id": wait.run_id})),)


def unregistered(run: Run) -> Iterator[tuple[str, Wait]]:
    """Give the waits that the other run has not confirmed."""
    return ((step_id, wait) for step_id, wait in waiting(run, RUN) if not wait.registered)


def _ask(run: Run, step_id: str, wait: Wait) -> Tell:
    assert wait.run_id is not None, "the wait is for a run"
    ask = WatchRun(watch_id=watch_id(run, step_id), by_run=run.data.id, workspace=run.data.workspace, name=wait.name)
    return Tell(LOG_RUNS, wait.run_id, ask, "")  # an unknown run, or one of another workspace, answers too


# --- of the run that is waited for -------------------------------------------------------------------------------


def watch(run: Run, command: WatchRun) -> Sequence[RunEvent]:
    """Remember who waits for this run; one that is over tells its end at once, and remembers nothing. Again: nothing."""
    if run.final or command.watch_id in run.data.watches or _refusal(run, command) is not None:
        return ()
    return (RunWatched(watch_id=command.watch_id, by_run=command.by_run, name=command.name),)


def _refusal(run: Run, command: WatchRun) -> NoteWatched | None:
    """Give the word that a wait cannot be kept, and why."""
    if not run.exists or run.data.workspace != command.workspace:
        kind, why = NotFoundError.type, "there is no such run"
    elif not run.final and command.watch_id not in run.data.watches and len(run.data.watches) >= WATCHES_MAX:
        kind, why = StepError.type, f"{WATCHES_MAX} waits are on record there already"
    else:
        return None
    return NoteWatched(watch_id=command.watch_id, refused=why, refused_type=kind)


def confirmed(run: Run, command: NoteEventReceived) -> Sequence[RunEvent]:
    """A waiting run has events on record. Again: nothing."""
    known = run.data.watches.get(command.watch_id)
    if known is None:
        return ()
    news = command.over or any(heard.version <= command.version for heard in known.pending)
    return (WatchConfirmed(watch_id=command.watch_id, version=command.version, over=command.over),) if news else ()


def remember(run: Run, event: WaitRegistered | RunWatched | WatchConfirmed, at: int) -> None:
    """Remember who waits, what they have heard, and that a wait of this run's own is on record: for `evolve` alone."""
    match event:
        case WaitRegistered(step=step):
            wait = run.step(step).wait
            if wait is not None:
                wait.registered = True
        case RunWatched(watch_id=watch, by_run=by_run, name=name):
            run.data.watches[watch] = Watch(by_run=by_run, name=name, at=at)
        case WatchConfirmed(watch_id=watch, over=True):
            run.data.watches.pop(watch, None)
        case WatchConfirmed(watch_id=watch, version=version):
            known = run.data.watches[watch]
            known.pending = [heard for heard in known.pending if heard.version > version]
        case _:
            assert_never(event)


def listen(run: Run, event: RunEvent, at: int) -> None:
    """Keep an event for those that wait for it until they confirm it: for `evolve` alone, after its version is known."""
    if not run.data.watches or run.final:
        return
    name = event.type_name()
    wanted = [known for known in run.data.watches.values() if known.name == name and len(known.pending) <= PENDING_MAX]
    if wanted:
        heard = Heard(version=run.data.version, name=name, at=at, data=_view(run, event))
        for known in wanted:
            known.pending.append(heard)


def _view(run: Run, event: RunEvent) -> Raw:
    """Give an event as another run's `when` sees it, without what is large."""
    whole = {"run_id": run.data.id, **codec.loads(codec.encode(event))}
    view = codec.raw(whole)
    if len(bytes(view)) <= INLINE_BYTES_MAX:
        return view
    return codec.raw({name: value for name, value in whole.items() if name not in LARGE} | {"truncated": True})


def _the_end(run: Run) -> Raw:
    data = run.data
    error = None if data.error is None else {"type": data.error.type, "message": data.error.message}
    view: dict[str, Any] = {"run_id": data.id, "type": _ending(run), "status": str(data.status), "error": error}
    view["workflow"] = run.queued.workflow
    if len(bytes(data.outputs)) <= INLINE_BYTES_MAX // 2:
        return codec.raw({**view, "outputs": codec.loads(data.outputs)})
    return codec.raw({**view, "truncated": True})


def _ending(run: Run) -> str:
    return {RunStatus.SUCCEEDED: "run.succeeded", RunStatus.FAILED: "run.failed"}.get(run.data.status, "run.cancelled")


def _tell(run: Run, watch: str, by_run: str, heard: Heard) -> Tell:
    command = DeliverEvent(
        source=RUN,
        name=heard.name,
        event_id=f"{run.data.id}/{heard.version}",
        at=heard.at,
        data=heard.data,
        run_id=run.data.id,
        watch_id=watch,
        version=heard.version,
    )
    return Tell(LOG_RUNS, by_run, command, run.data.workspace)


def _tell_end(run: Run, watch: str, by_run: str) -> Tell:
    command = DeliverEvent(
        source=RUN,
        name=_ending(run),
        event_id=f"{run.data.id}/end",
        at=run.data.finished_at or 0,
        data=_the_end(run),
        run_id=run.data.id,
        watch_id=watch,
        over=True,
    )
    return Tell(LOG_RUNS, by_run, command, run.data.workspace)


def _news(run: Run, watch: str, known: Watch) -> Iterator[Tell]:
    """Give what a waiting run has not confirmed: events, after them the end; or that there were too many."""
    if len(known.pending) > PENDING_MAX:
        why = f"more than {PENDING_MAX} of its events came faster than they could be told"
        refused = NoteWatched(watch_id=watch, refused=why, refused_type=StepError.type, run_id=run.data.id)
        yield Tell(LOG_RUNS, known.by_run, refused, run.data.workspace)
        return
    for heard in known.pending:
        yield _tell(run, watch, known.by_run, heard)
    if run.final and not known.pending:
        yield _tell_end(run, watch, known.by_run)


# --- what is set going -------------------------------------------------------------------------------------------


def spread(run: Run, event: RunEvent) -> Iterator[Tell]:
    """Give what an event says to other runs: that this one waits for them, and what they wait for."""
    if isinstance(event, WaitStarted) and event.kind == RUN:
        wait = run.peek(event.step).wait
        if wait is not None:
            yield _ask(run, event.step, wait)
    for watch, known in run.data.watches.items():
        newest = known.pending[-1] if known.pending else None
        if newest is not None and newest.version == run.data.version and len(known.pending) <= PENDING_MAX:
            yield _tell(run, watch, known.by_run, newest)
        elif run.final and not known.pending:
            yield _tell_end(run, watch, known.by_run)


def again(run: Run) -> Iterator[Tell]:
    """Say again what other runs have not confirmed."""
    if not run.final:
        for step_id, wait in unregistered(run):
            yield _ask(run, step_id, wait)
    for watch, known in run.data.watches.items():
        yield from _news(run, watch, known)


def unheard(run: Run) -> Iterator[int]:
    """Give since when other runs owe a confirmation."""
    if not run.final:
        for step_id, _ in unregistered(run):
            yield run.peek(step_id).started_at or run.data.created_at
    for known in run.data.watches.values():
        if known.pending:
            yield known.pending[0].at
        elif run.final:
            yield run.data.finished_at or known.at


def receipts(run: Run, command: BetweenRuns) -> Iterator[Tell]:
    """Answer a run that waits, or that is waited for."""
    match command:
        case WatchRun(watch_id=watch, by_run=by_run, workspace=workspace):
            refused = _refusal(run, command)
            if refused is None and run.final:
                yield _tell_end(run, watch, by_run)
            else:
                yield Tell(LOG_RUNS, by_run, refused or NoteWatched(watch_id=watch), workspace)
        case DeliverEvent(run_id=str(run_id), watch_id=watch, version=version):
            over = _waits_as(run, watch) is None or run.halted
            received = NoteEventReceived(watch_id=watch, version=version, over=over)
            yield Tell(LOG_RUNS, run_id, received, run.data.workspace)
        case NoteWatched(watch_id=watch, refused=refused, run_id=run_id) if refused and run_id:
            received = NoteEventReceived(watch_id=watch, version=0, over=True)
            yield Tell(LOG_RUNS, run_id, received, run.data.workspace)
        case DeliverEvent() | NoteWatched() | NoteEventReceived():
            return
        case _:
            assert_never(command)
