"""Runs of any shape to which anything happens: each ends, nothing is left in silent doubt, and what was done is undone once."""

import pytest

from tests.planner.any_run import AnyRun

RUNS_A_TEST = 60


@pytest.mark.parametrize("first", range(0, 300, RUNS_A_TEST))
def test_whatever_happens_a_run_ends_and_says_what_may_have_happened(first: int) -> None:
    for seed in range(first, first + RUNS_A_TEST):
        try:
            AnyRun(seed).live()
        except AssertionError as problem:
            problem.add_note(f"the run of seed {seed}")
            raise
