"""Results of a map's items that come together become one event (pure): one leaf of the chain, one row, one message."""

from collections.abc import Sequence

from headrace.decider import Context, Library
from headrace.events.runs import StepSucceeded
from headrace.messages import ReportAttempt
from headrace.vocabulary import AttemptStatus
from headrace_planner.runs.attempts import report
from headrace_planner.runs.state import Run


def results(
    run: Run, commands: Sequence[ReportAttempt], context: Context, library: Library
) -> tuple[StepSucceeded, ...]:
    """Judge results in their order, as far as each is an item's success that says nothing of the others.

    Whatever else is said (a failure, a late word, the same item again) is judged by itself, once these are on record.
    Raises MissingError while a body must be fetched.
    """
    if run.data.watches:
        return ()  # whoever waits for an event of this run hears them one by one
    found: dict[int, StepSucceeded] = {}
    for command in commands:
        index = command.index
        if index is None or index in found or command.status != AttemptStatus.SUCCEEDED:
            break
        judged = report(run, command, context, library)
        if not isinstance(judged, tuple) or len(judged) != 1 or not isinstance(judged[0], StepSucceeded):
            break
        found[index] = judged[0]
    return tuple(found.values())
