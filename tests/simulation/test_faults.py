"""When faults strike: at their time, or in the middle of the work."""

import msgspec
import pytest

from headrace.testing.simulation.command import show
from headrace.testing.simulation.scenario import STORM_S, Fault, scenario
from headrace.testing.simulation.schedule import Schedule
from headrace.testing.simulation.weather import CALM

SEED = 3
LATEST_S = 9.0


def _struck(fault: Fault) -> tuple[int, float]:
    """Run a schedule with this fault alone; gives how often it happened, and when it was over."""
    schedule = Schedule(msgspec.structs.replace(scenario(SEED), faults=(fault,), rates=CALM))
    outcome = schedule.run()
    assert not outcome.findings, show(outcome)
    return outcome.fired[fault.kind], schedule.faults.until


def test_a_fault_at_work_strikes_as_its_event_takes_hold_and_not_at_its_time() -> None:
    times, first = _struck(Fault(kind="clock jump", at=LATEST_S, after=1))
    assert (times, first < LATEST_S) == (1, True)
    times, tenth = _struck(Fault(kind="clock jump", at=LATEST_S, after=10))
    assert (times, first < tenth < LATEST_S) == (1, True)
    times, later = _struck(Fault(kind="clock jump", at=LATEST_S, after=10, moment=0.25))
    assert times == 1
    assert later == pytest.approx(tenth + 0.25)


def test_a_fault_at_work_whose_event_never_comes_strikes_at_its_time() -> None:
    assert _struck(Fault(kind="clock jump", at=LATEST_S, after=100_000)) == (1, LATEST_S)


def test_the_storm_lasts_until_the_last_fault_is_over() -> None:
    fault = Fault(kind="pause worker", at=STORM_S - 1, seconds=9.0)
    schedule = Schedule(msgspec.structs.replace(scenario(SEED), faults=(fault,), rates=CALM))
    outcome = schedule.run()
    assert not outcome.findings, show(outcome)
    assert schedule.faults.until == STORM_S + 8
    assert outcome.seconds >= schedule.faults.until


def test_seeds_draw_faults_of_both_sorts() -> None:
    faults = [fault for seed in range(20) for fault in scenario(seed).faults]
    assert any(fault.after is None for fault in faults)
    assert any(fault.after is not None for fault in faults)
