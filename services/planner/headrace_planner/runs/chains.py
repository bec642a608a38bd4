"""The results of a chain become one event (pure): which of them may be recorded together.

A run remembers the same as if each had come alone. Recorded together is only what makes no difference to anybody but in
what it costs: results that a worker gave one after the other, of steps at which nothing else happens. All else is judged
one by one, as ever.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace import codec
from headrace.codec import Raw
from headrace.decider import Library
from headrace.errors import StepError, ValidationError
from headrace.events.runs import StepSucceeded
from headrace.messages import ReportAttempt
from headrace.plans.model import CallStep
from headrace.vocabulary import AttemptStatus, StepStatus
from headrace_planner.runs.fusion import may_follow
from headrace_planner.runs.orders import digest_for
from headrace_planner.runs.scope import RunScope
from headrace_planner.runs.state import Run

SUCCEEDED: Final = StepStatus.SUCCEEDED.value
"""What templates read as the status of a step that succeeded."""


class Made:
    """The scope of a chain's arguments: the results that its report brings, and before them what is on record."""

    __slots__ = ("_given", "_read", "_recorded", "root")

    def __init__(self, run: Run, library: Library) -> None:
        self._recorded = RunScope(run, library)
        self._given: dict[str, Raw] = {}
        self._read: dict[str, Mapping[str, Any]] = {}
        self.root = self._recorded.root

    def add(self, step_id: str, output: Raw) -> None:
        """Take in what a step of the chain gave."""
        self._given[step_id] = output

    def step(self, step_id: str) -> Mapping[str, Any]:
        """Give what expressions of a chain may read of a step; raises KeyError for one that the plan does not have."""
        known = self._read.get(step_id)
        if known is None:
            given = self._given.get(step_id)
            if given is None:
                return self._recorded.step(step_id)
            known = self._read[step_id] = {"output": codec.loads(given), "status": SUCCEEDED, "error": None}
        return known


def results(run: Run, reports: Sequence[ReportAttempt], library: Library) -> tuple[StepSucceeded, ...]:
    """Give as many of a chain's first results as can be recorded together; raises MissingError while a body must be fetched."""
    first = reports[0]
    if not _begins(run, first, library):
        return ()
    found = [_result(first, digest_for(run, library, (first.step, None)))]
    made, members, before = Made(run, library), {first.step}, first
    made.add(first.step, first.output)
    for report in reports[1:]:
        digest = _following(run, report, before, members, made)
        if not digest:
            break
        found.append(_result(report, digest))
        made.add(report.step, report.output)
        members.add(report.step)
        before = report
    return tuple(found)


def _begins(run: Run, report: ReportAttempt, library: Library) -> bool:
    """Tell whether nothing stands against the first of several results, nor anybody waits for events of the run."""
    step_id = report.step
    if not run.exists or run.resting or run.data.watches or step_id not in run.graph.follows or not _plain(run, report):
        return False
    trial = run.trial((step_id, None))
    if trial is None or trial.attempt != report.attempt or trial.idle or run.graph.index[step_id].parent:
        return False
    if report.attempt_id != run.attempt_id((step_id, None), trial.attempt):
        return False
    if not report.after:
        return True
    if run.graph.follows.get(report.after) != step_id:
        return False
    try:
        return digest_for(run, library, (step_id, None)) == report.arguments_digest
    except (StepError, ValidationError):
        return False


def _plain(run: Run, report: ReportAttempt) -> bool:
    """Tell whether a report is of a success with nothing but its output."""
    plain = report.status == AttemptStatus.SUCCEEDED and report.index is None and report.blob is None
    return plain and not report.artifacts and not run.graph.index[report.step].artifacts


def _following(run: Run, report: ReportAttempt, before: ReportAttempt, members: set[str], made: Made) -> str:
    """Give the digest of a following step's arguments, or nothing where its result must be judged by itself."""
    step_id = report.step
    if report.after != before.step or run.graph.follows.get(before.step) != step_id or report.attempt != 1:
        return ""
    if step_id not in run.graph.plain or not _plain(run, report) or not may_follow(run, step_id, members):
        return ""
    if report.attempt_id != run.attempt_id((step_id, None), 1):
        return ""
    body = run.graph.index[step_id].body
    assert isinstance(body, CallStep), "a chain is made of calls"
    try:
        arguments = codec.dumps(run.graph.template(step_id, "arguments", body.arguments).resolve(made))
    except (StepError, ValidationError):
        return ""
    digest = codec.sha256(arguments)
    return digest if digest == report.arguments_digest else ""


def _result(report: ReportAttempt, digest: str) -> StepSucceeded:
    return StepSucceeded(
        step=report.step,
        attempt=report.attempt,
        attempt_id=report.attempt_id,
        output=report.output,
        evidence=report.evidence,
        worker=report.worker,
        started_at=report.started_at,
        finished_at=report.finished_at,
        arguments_digest=digest,
    )
