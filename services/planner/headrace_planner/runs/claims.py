"""What a run has permitted workers to do and has no word of yet (pure)."""

from collections.abc import Iterator

from headrace.messages import LoseAttempt
from headrace_planner.runs.state import Run


def given_up(run: Run) -> Iterator[LoseAttempt]:
    """Give the commands that give every open claim up for lost: whoever holds one answers to another database.

    Not those of which a person is asked already: they are with nobody.
    """
    for instance in run.under_way():
        trial = run.trial(instance)
        if trial is not None and trial.nonce is not None and trial.unknown is None:
            step, index = instance
            attempt_id = run.attempt_id(instance, trial.attempt)
            worker = trial.claimed_by or ""
            yield LoseAttempt(step=step, index=index, attempt=trial.attempt, attempt_id=attempt_id, worker=worker)
