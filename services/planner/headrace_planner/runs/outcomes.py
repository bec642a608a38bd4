"""What a run remembers of its attempts: results, failures, tries, claims (pure; for `evolve` alone)."""

from collections.abc import Sequence
from typing import assert_never

from headrace.events.runs import AttemptFailed, StepFailed, StepRetried, StepsSucceeded, StepSucceeded, WriteClaimed
from headrace.vocabulary import AttemptStatus, StepStatus
from headrace_planner.runs import artifacts, doubts, pieces, settling, waits, work
from headrace_planner.runs.instances import close, cut, end, keep_try, make_ready, open_instance, open_next_item
from headrace_planner.runs.kept import Try
from headrace_planner.runs.state import Instance, Run
from headrace_planner.runs.times import will_retry

Outcome = StepSucceeded | StepsSucceeded | StepFailed | StepRetried | AttemptFailed | WriteClaimed


def remember(run: Run, event: Outcome, at: int) -> None:
    """Remember a worker's word, or the planner's own, about a step."""
    if run.data.children and isinstance(event, StepSucceeded | StepFailed | AttemptFailed):
        run.data.children.pop(event.child_id or "", None)
    match event:
        case StepSucceeded():
            _succeeded(run, event, at)
        case StepsSucceeded(results=results) if results[0].index is None:
            _chain(run, results, at)
        case StepsSucceeded(results=results):
            for each in results:
                remember(run, each, at)
        case StepFailed():
            _failed(run, event, at)
        case StepRetried(step=step, index=index, attempt=attempt):
            _retried(run, (step, index), attempt)
        case AttemptFailed():
            _attempt_failed(run, event, at)
        case WriteClaimed():
            _claimed(run, event, at)
        case _:
            assert_never(event)


def _succeeded(run: Run, event: StepSucceeded, at: int) -> None:
    known = run.step(event.step)
    instance = (event.step, event.index)
    work.remember(run, event)
    waits.taken(run, event)
    close(run, instance)
    if event.artifacts:
        artifacts.leave(run, event, at)
    if event.index is not None:
        _item_over(run, event)
        return
    known.attempt, known.attempt_id, known.worker = event.attempt, event.attempt_id, event.worker
    known.evidence, known.arguments_digest = event.evidence, event.arguments_digest
    known.started_at = event.started_at or known.started_at or at
    if known.map is None:
        known.output, known.blob = event.output, event.blob
    end(run, event.step, StepStatus.SUCCEEDED, event.finished_at or at)


def _chain(run: Run, results: Sequence[StepSucceeded], at: int) -> None:
    """Remember the results of a chain: what only the next of them waits for is never under way in between."""
    close(run, (results[0].step, None))
    for one, following in zip(results, (*results[1:], None), strict=True):
        step_id, known = one.step, run.step(one.step)
        known.attempt, known.attempt_id, known.worker = one.attempt, one.attempt_id, one.worker
        known.evidence, known.arguments_digest, known.output = one.evidence, one.arguments_digest, one.output
        known.started_at = one.started_at or known.started_at or at
        known.status, known.finished_at = StepStatus.SUCCEEDED, one.finished_at or at
        known.due_at = known.timed_since = known.wait = None
        run.data.steps_done += 1
        run.decoded.pop(("step", step_id), None)
        for follower in run.graph.successors[step_id]:
            run.data.left[follower] -= 1
            if run.data.left[follower] == 0 and (following is None or follower != following.step):
                make_ready(run, follower)


def _item_over(run: Run, event: StepSucceeded | StepFailed) -> None:
    known = run.step(event.step)
    assert known.map is not None, "only a map has items"
    pieces.settle(known.map, event)
    if isinstance(event, StepSucceeded) or not event.ends:
        open_next_item(run, event.step, known.map)


def _failed(run: Run, event: StepFailed, at: int) -> None:
    known = run.step(event.step)
    instance, over_time = (event.step, event.index), event.status == AttemptStatus.TIMED_OUT
    if event.index is None and (over_time or known.map is not None):
        cut(run, event.step)
    elif over_time and (trial := run.trial(instance)) is not None and not trial.idle:
        run.stopped.append((instance, trial.attempt))  # its worker may not know, or still come to it
    close(run, instance)
    if event.artifacts:
        artifacts.leave(run, event, at)
    settling.doubt(run, event)
    if event.status == AttemptStatus.CANCELLED:
        if event.index is None:
            known.attempt, known.attempt_id, known.worker = event.attempt, event.attempt_id, event.worker
            end(run, event.step, StepStatus.CANCELLED, at)
        elif known.map is not None and event.attempt != 1:
            known.map.accepted[event.index] = event.attempt
        return
    if event.attempt_id is not None:
        keep_try(run, event)
    if event.index is not None:
        if not event.continued:
            known.error = event.error
            run.data.failed_step = run.data.failed_step or event.step
        _item_over(run, event)
        return
    known.attempt, known.attempt_id, known.worker = event.attempt, event.attempt_id, event.worker
    known.error = event.error
    known.started_at = event.started_at or known.started_at or at
    if not event.continued:
        run.data.failed_step = run.data.failed_step or event.step
    end(run, event.step, StepStatus.FAILED, event.finished_at or at)


def _attempt_failed(run: Run, event: AttemptFailed, at: int) -> None:
    instance = (event.step, event.index)
    keep_try(run, event, event.retry_at)
    old = close(run, instance)
    if event.status == AttemptStatus.TIMED_OUT:
        run.stopped.append((instance, event.attempt))  # its worker may not know
    trial = _next_try(old, event.attempt + 1)
    if old is not None:
        trial.cut = doubts.cut_off(event, old)
    trial.lost += event.status == AttemptStatus.LOST
    trial.returned += event.status == AttemptStatus.CANCELLED
    trial.retry_at = event.retry_at
    if event.retry_at <= at and run.data.paused is None:
        trial.retry_at = None
        open_instance(run, instance, trial)
        return
    known = run.step(event.step)
    will_retry(run, instance, event.retry_at)
    if event.step in run.data.ready:  # it came of a chain, while the run was paused
        run.data.ready.remove(event.step)
    if event.index is None:
        known.open, known.status = trial, StepStatus.WAITING
    else:
        assert known.map is not None, "only a map has items"
        known.map.open[event.index] = trial


def _retried(run: Run, instance: Instance, attempt: int) -> None:
    open_instance(run, instance, _next_try(run.trial(instance), attempt))


def _next_try(old: Try | None, attempt: int) -> Try:
    return Try(attempt=attempt, lost=old.lost, returned=old.returned, cut=old.cut) if old else Try(attempt=attempt)


def _claimed(run: Run, event: WriteClaimed, at: int) -> None:
    trial = run.trial((event.step, event.index))
    if trial is not None:
        trial.nonce, trial.claimed_by, trial.claimed_at = event.nonce, event.worker, at
        trial.claimed_digest = event.arguments_digest
    known = run.step(event.step)
    known.status = StepStatus.RUNNING
    known.started_at = known.started_at or at
