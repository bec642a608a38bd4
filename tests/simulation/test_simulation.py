"""Whole installations in virtual time while everything breaks: what was promised holds, and a seed repeats exactly."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from headrace.testing.simulation.command import BLIND_BELOW, VOID_BELOW, WEATHER, Tally, show, void
from headrace.testing.simulation.scenario import KINDS, scenario
from headrace.testing.simulation.schedule import run

SEEDS = 120
PARTS = 4
TWICE = (1, 6, 13)
MUST_RUN = {
    "attempt.failed",
    "attempt.late",
    "run.cancel_requested",
    "run.cancelled",
    "run.failed",
    "step.retried",
    "step.skipped",
    "timer.started",
    "write.claimed",
    "approval.closed",
}
"""Branches of the product that so many schedules must have run, else they prove little."""
_fired: Counter[str] = Counter()


@pytest.mark.parametrize("part", range(PARTS))
def test_no_promise_is_broken_in_many_seeded_schedules(part: int) -> None:
    for seed in range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS):
        outcome = run(scenario(seed))
        _fired.update(outcome.fired)
        assert not outcome.findings, show(outcome)


def test_every_fault_and_every_branch_was_met_on_the_way() -> None:
    fired = _fired or sum((run(scenario(seed)).fired for seed in range(SEEDS)), Counter())
    assert {*KINDS, *WEATHER, *MUST_RUN} - {name for name, count in fired.items() if count} == set()


@pytest.mark.parametrize("seed", TWICE)
def test_the_same_seed_gives_the_same_events_effects_and_answers_byte_for_byte(seed: int) -> None:
    assert run(scenario(seed)).story == run(scenario(seed)).story


def test_different_seeds_give_different_histories() -> None:
    assert len({run(scenario(seed)).digest for seed in range(5)}) == 5


def test_a_seed_repeats_in_another_process_whatever_its_hashes_are() -> None:
    code = (
        "from headrace.testing.simulation.scenario import scenario\n"
        "from headrace.testing.simulation.schedule import run\n"
        f"print([run(scenario(seed)).digest for seed in {TWICE}])"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            check=True,
            text=True,
            timeout=100,
        ).stdout
        for hashes in ("1", "2")
    }
    assert told == {f"{[run(scenario(seed)).digest for seed in TWICE]}\n"}


def test_a_campaign_that_saw_no_effect_or_missed_a_fault_is_void() -> None:
    all_fired = Counter(dict.fromkeys((*KINDS, *WEATHER), 1))
    whole = Tally(seeds=VOID_BELOW, effects=1, fired=all_fired)
    assert void(whole) == ""
    assert void(Tally(seeds=BLIND_BELOW, effects=0, fired=all_fired)) == "the ledger of effects saw none"
    assert void(Tally(seeds=BLIND_BELOW, effects=1)) == ""
    missed = Tally(seeds=VOID_BELOW, effects=1, fired=all_fired - Counter([WEATHER[0]]))
    assert void(missed) == f"these faults never happened: {WEATHER[0]}"
