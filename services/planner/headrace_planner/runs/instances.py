"""How steps and their instances come under way and end, in what a run remembers (pure; for `evolve` alone)."""

from headrace.events.runs import AttemptFailed, MapStarted, StepFailed
from headrace.vocabulary import ATTEMPTS_KEPT_MAX, MAP_IN_FLIGHT_MAX, STEP_FINAL, StepStatus
from headrace_planner.runs import limits
from headrace_planner.runs.kept import Child, MapState, Tried, Try
from headrace_planner.runs.quotas import quota_of
from headrace_planner.runs.state import Instance, Run, StepState


def make_ready(run: Run, step_id: str) -> None:
    """Everything a step needs is over: a plain call is under way at once, the rest waits for `Advance` to decide."""
    if run.over(step_id):
        return
    if run.openable(step_id):
        open_instance(run, (step_id, None), Try())
    elif step_id not in run.data.ready:
        run.data.ready.append(step_id)


def free_all(run: Run) -> None:
    """Let everything begin that needs nothing, or only what is over."""
    for step in run.graph.plan.steps:
        if not step.parent and not run.data.left.get(step.id):
            make_ready(run, step.id)


def open_instance(run: Run, instance: Instance, trial: Try) -> None:
    """Put an instance under way, or in line for the rate limit of its tool."""
    step_id, index = instance
    known = run.step(step_id)
    known.status = StepStatus.QUEUED if index is None else StepStatus.RUNNING
    if index is None:
        known.open = trial
    else:
        assert known.map is not None, "only a map has items"
        known.map.open[index] = trial
    if step_id in run.data.ready:
        run.data.ready.remove(step_id)
    quota = quota_of(run, step_id)
    if quota is not None:
        trial.limited = quota.flow_id
        run.data.limited.setdefault(quota.flow_id, []).append(instance)
        if index is None:
            known.status = StepStatus.WAITING
        limits.clock_rests(run, step_id)
        return
    _set_going(run, instance, trial)


def let_begin(run: Run, instance: Instance) -> None:
    """Put an instance under way that a rate limit lets begin."""
    trial = run.trial(instance)
    assert trial is not None, "what waits for a limit is open"
    leave_line(run, instance, trial)
    if instance[1] is None:
        run.step(instance[0]).status = StepStatus.QUEUED
    _set_going(run, instance, trial)


def leave_line(run: Run, instance: Instance, trial: Try) -> None:
    """Let an instance wait for no rate limit any more."""
    if trial.limited is not None:
        line = run.data.limited[trial.limited]
        line.remove(instance)
        if not line:
            del run.data.limited[trial.limited]
        trial.limited = None


def _set_going(run: Run, instance: Instance, trial: Try) -> None:
    step_id, index = instance
    step = run.graph.index[step_id]
    if step_id in run.graph.children:
        trial.child = run.child_id(instance, trial.attempt, run.at)
        hold = run.data.hold
        run.data.children[trial.child] = Child(
            step=step_id,
            attempt=trial.attempt,
            asked_at=run.at,
            index=index,
            iteration=run.step(step_id).iteration,
            turn=hold.turned if hold is not None and run.data.paused is None else 0,
        )
    else:
        run.data.active += 1
    if step.queue_timeout_s is not None:
        trial.since = run.at
    if step.step_timeout_s is not None:
        limits.clock_runs(run, step_id)
    run.unchecked.append(instance)


def close(run: Run, instance: Instance) -> Try | None:
    """Take an instance out of what is under way; gives its last try."""
    step_id, index = instance
    known = run.step(step_id)
    trial = run.trial(instance)
    if trial is not None:
        run.orders.pop((instance, trial.attempt), None)
        run.data.active -= not trial.idle
        leave_line(run, instance, trial)
    if index is None:
        known.open = None
    elif known.map is not None:
        known.map.open.pop(index, None)
    return trial


def open_next_item(run: Run, step_id: str, state: MapState) -> None:
    """Put the next item of a map under way, if there is one and anything may begin."""
    if state.next < state.count and not run.resting:
        state.next += 1
        open_instance(run, (step_id, state.next - 1), Try())


def end(run: Run, step_id: str, status: StepStatus, at: int) -> None:
    """End a step: whatever needs it may begin; the body of a loop that ends without it is skipped."""
    known = run.step(step_id)
    if known.status in STEP_FINAL:
        return
    known.status = status
    known.finished_at = at
    known.due_at = known.timed_since = known.wait = None
    run.data.steps_done += not run.graph.index[step_id].compensates
    run.decoded.pop(("step", step_id), None)
    run.decoded.pop(("items", step_id), None)
    if step_id in run.data.ready:
        run.data.ready.remove(step_id)
    for inner in run.graph.inside.get(step_id, ()):
        if not run.over(inner):
            run.step(inner).reason = f"the loop {step_id!r} ended without it"
            end(run, inner, StepStatus.SKIPPED, at)
    for follower in run.graph.successors[step_id]:
        run.data.left[follower] -= 1
        if run.data.left[follower] == 0 and run.data.begun:
            make_ready(run, follower)


def map_started(run: Run, event: MapStarted, at: int) -> None:
    """Begin a map: its first items are under way."""
    known = run.step(event.step)
    known.map = MapState(count=event.count)
    known.status, known.started_at = StepStatus.RUNNING, at
    if event.step in run.data.ready:
        run.data.ready.remove(event.step)
    fill_map(run, event.step, known.map)


def fill_map(run: Run, step_id: str, state: MapState) -> None:
    """Put as many items of a map under way as may be at once."""
    window = run.graph.index[step_id].concurrency or MAP_IN_FLIGHT_MAX
    while len(state.open) < min(window, MAP_IN_FLIGHT_MAX) and state.next < state.count and not run.resting:
        open_next_item(run, step_id, state)


def hold(run: Run, step_id: str, at: int) -> StepState:
    """Let a step wait for something outside."""
    known = run.step(step_id)
    known.status, known.started_at = StepStatus.WAITING, at
    if step_id in run.data.ready:
        run.data.ready.remove(step_id)
    return known


def cut(run: Run, step_id: str) -> None:
    """End whatever is open of a step that ends before it: what is out is stopped, and its late word will be news."""
    known = run.step(step_id)
    items: list[Instance] = [(step_id, index) for index in known.map.open] if known.map is not None else []
    for instance in [(step_id, None), *items]:
        trial = run.trial(instance)
        if trial is None or (
            trial.unknown is not None and step_id in run.graph.undo and not run.goes_on((step_id, None))
        ):
            continue  # what may have to be undone stays open until somebody has said whether it happened
        if not trial.idle:
            run.stopped.append((instance, trial.attempt))
        if known.map is not None and instance[1] is not None:
            known.map.cut.append(instance[1])
        close(run, instance)


def stop_all(run: Run) -> None:
    """Note every attempt that is out, so that it is stopped; what waits to be tried again is not. Children end later.

    A write that may have happened and can be undone stays open: only when a person has spoken is known whether to.
    """
    limits.clocks_paused(run)  # what was stopped does not fail for being late
    for instance in run.under_way():
        trial = run.trial(instance)
        assert trial is not None, "what is under way has a try"
        if not trial.idle:
            run.stopped.append((instance, trial.attempt))
        elif trial.child is None and (trial.unknown is None or instance[0] not in run.graph.undo):
            if trial.uncertain:
                run.data.doubts.append(run.label(instance))
            close(run, instance)


def keep_try(run: Run, event: AttemptFailed | StepFailed, next_at: int | None = None) -> None:
    """Keep a failed attempt among the last ones, for people to see; one is kept once."""
    tried = run.step(event.step).tried
    if tried and tried[-1].attempt_id == event.attempt_id:
        tried.pop()
    tried.append(
        Tried(
            number=event.attempt,
            status=event.status,
            error=event.error,
            index=event.index,
            iteration=event.iteration,
            attempt_id=event.attempt_id,
            worker=event.worker or None,
            started_at=event.started_at,
            finished_at=event.finished_at or run.at,
            next_at=next_at,
        )
    )
    del tried[:-ATTEMPTS_KEPT_MAX]
