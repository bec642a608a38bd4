"""How long runs and steps took, counted once their ends are committed: from the events and the rows made of them."""

from headrace import telemetry
from headrace.events.runs import RunCancelled, RunFailed, RunSucceeded, StepFailed, StepSucceeded
from headrace.host.draft import Part
from headrace.vocabulary import LOG_RUNS, STEP_FINAL

RUN_ENDS = (RunSucceeded, RunFailed, RunCancelled)
STEP_ENDS = (StepSucceeded, StepFailed)


def measure(part: Part) -> None:
    """Count the runs and steps that ended in a committed part; a map is one step, its items are none."""
    if part.held.log != LOG_RUNS or not part.changed:
        return
    over: set[str] = set()
    ends: dict[tuple[str, str], StepSucceeded | StepFailed] = {}
    for stream_id, (_, events) in part.changed.items():
        for event in events:
            if isinstance(event, STEP_ENDS):
                ends[stream_id, event.step] = event
            elif isinstance(event, RUN_ENDS):
                over.add(stream_id)
    if not over and not ends:
        return
    for row in part.rows:
        columns = row.columns
        if row.table == "runs" and columns["id"] in over:
            began = columns["started_at"] or columns["created_at"]
            telemetry.run_finished(columns["status"], max(columns["finished_at"] - began, 0) / 1000)
        elif row.table == "steps" and (columns["run_id"], columns["step"]) in ends:
            _step(columns["kind"], columns["status"], columns, ends[columns["run_id"], columns["step"]])


def _step(kind: str, status: str, columns: dict[str, object], event: StepSucceeded | StepFailed) -> None:
    """Count a step, or the last round of a loop's; a map whose items are not all over has not ended."""
    if event.index is not None and status not in STEP_FINAL:
        return
    if event.index is None and status not in STEP_FINAL:
        status = event.status if isinstance(event, StepFailed) else "succeeded"  # the next round has begun
    began, ended = columns["started_at"], columns["finished_at"]
    if event.index is None and event.started_at is not None and event.finished_at is not None:
        began, ended = event.started_at, event.finished_at
    took_ms = ended - began if isinstance(began, int) and isinstance(ended, int) else 0
    telemetry.step_finished(kind, status, max(took_ms, 0) / 1000)
