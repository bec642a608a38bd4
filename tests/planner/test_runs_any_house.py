"""Runs of any shape, with people, waits, loops in loops and children: what is said of them is what their history says."""

import pytest

from tests.planner.any_house import AnyHouse, AnyRerun

RUNS_A_TEST = 60


@pytest.mark.parametrize("first", range(0, 240, RUNS_A_TEST))
def test_what_is_said_of_a_run_is_what_its_history_says(first: int) -> None:
    for seed in range(first, first + RUNS_A_TEST):
        try:
            AnyHouse(seed).live()
        except AssertionError as problem:
            problem.add_note(f"the run of seed {seed}")
            raise


def test_in_a_rerun_of_any_run_what_stands_is_neither_done_again_nor_undone() -> None:
    stood = 0
    for seed in range(RUNS_A_TEST):
        try:
            rerun = AnyRerun(seed)
            rerun.live()
        except AssertionError as problem:
            problem.add_note(f"the rerun of seed {seed}")
            raise
        stood += bool(rerun.stands)
    assert stood > RUNS_A_TEST // 4
