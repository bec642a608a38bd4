"""Timers that meet: what is done now and then waits for ticks that all processes of a machine share."""

import pytest

from headrace.clock import SystemClock, astray_ms, until_tick


@pytest.mark.parametrize(("now_s", "period_s", "wanted_s"), [(100.0, 2.0, 2.0), (101.5, 2.0, 0.5), (7.0, 5.0, 3.0)])
def test_a_tick_is_the_next_multiple_of_its_period(now_s: float, period_s: float, wanted_s: float) -> None:
    assert until_tick(now_s, period_s) == pytest.approx(wanted_s)


@pytest.mark.parametrize("early_s", [0.0, 0.001, 0.1])
def test_whoever_was_woken_a_little_early_waits_for_the_tick_after(early_s: float) -> None:
    assert until_tick(12.0 - early_s, 1.0) == pytest.approx(1.0 + early_s)


@pytest.mark.parametrize("period_s", [0.05, 1.0, 1.5, 2.0, 30.0])
def test_two_that_begin_apart_meet_at_the_same_tick_and_nobody_waits_much_longer_than_a_period(period_s: float) -> None:
    for begins in range(200):
        now_s = 1_000.0 + begins * period_s / 77
        pause_s = until_tick(now_s, period_s)
        ticks = (now_s + pause_s) / period_s
        assert ticks == pytest.approx(round(ticks))
        assert 0.12 * period_s <= pause_s <= 1.13 * period_s


@pytest.mark.parametrize(
    ("now_ms", "told_ms", "took_ms", "ahead_ms"),
    [
        (1_000, 1_000, 5, 0),
        (1_400, 1_000, 500, 0),  # the answer was late: the clock may be right
        (1_501, 1_000, 500, 1),
        (8_000, 1_000, 2, 6_998),
        (999, 1_000, 500, -1),
        (200, 1_000, 3, -800),
    ],
)
def test_a_clock_is_set_by_what_it_is_astray_for_certain(
    now_ms: int, told_ms: int, took_ms: int, ahead_ms: int
) -> None:
    assert astray_ms(now_ms, told_ms, took_ms) == ahead_ms


def test_a_late_answer_sets_no_clock_back_and_so_none_ahead_after_it() -> None:
    clock = SystemClock()
    before = clock.now_ms()
    clock.steer(before - 900, 1_000)
    assert before <= clock.now_ms()
    clock.steer(before + 7_200_000, 2)
    assert before + 7_200_000 <= clock.now_ms() < before + 7_300_000, "the database's clock is the one that counts"
    clock.steer(before, 2)
    assert clock.now_ms() < before + 100_000
