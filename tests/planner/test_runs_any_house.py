"""Runs of any shape, with people, waits, loops in loops and children: what is said of them is what their history says."""

import pytest

from tests.planner.any_house import AnyHouse

RUNS_A_TEST = 60


@pytest.mark.parametrize("first", range(0, 240, RUNS_A_TEST))
def test_what_is_said_of_a_run_is_what_its_history_says(first: int) -> None:
    for seed in range(first, first + RUNS_A_TEST):
        try:
            AnyHouse(seed).live()
        except AssertionError as problem:
            problem.add_note(f"the run of seed {seed}")
            raise
