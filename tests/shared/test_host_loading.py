"""What states weigh in memory, and how often they are kept."""

from headrace.clock import SystemClock
from headrace.host.library import CachedLibrary
from headrace.host.loading import EVENT_BYTES, SNAPSHOT_EVENTS, SNAPSHOT_EVENTS_MAX, States, is_due
from headrace.host.tenure import Held, Stream
from headrace.log.memory import MemoryLog

HELD = Held("runs", 0, 1, 0, 1.0, None)


def stream(name: str = "a", since: int = 0, kept_bytes: int = 0) -> Stream:
    return Stream(HELD, name, object(), 1, "default", 0, kept_bytes=kept_bytes, since=since)


def test_a_large_state_is_kept_less_often_than_a_small_one_and_yet_now_and_then() -> None:
    assert is_due(stream(since=SNAPSHOT_EVENTS))
    large = 10 * SNAPSHOT_EVENTS * EVENT_BYTES
    assert not is_due(stream(since=10 * SNAPSHOT_EVENTS - 1, kept_bytes=large))
    assert is_due(stream(since=10 * SNAPSHOT_EVENTS, kept_bytes=large))
    assert is_due(stream(since=SNAPSHOT_EVENTS_MAX, kept_bytes=1_000 * large))


def test_a_state_that_forgot_what_it_was_told_weighs_what_it_still_holds() -> None:
    states = States(MemoryLog(SystemClock()), CachedLibrary(), bytes_max=10_000)
    long, other = stream("long"), stream("other")
    states.grown(long, 9_000, 90)
    states.measured(long, 100)
    states.grown(other, 5_000, 50)
    assert states.trim(0) == []
    states.grown(long, 9_000, 90)
    assert [gone.stream_id for gone in states.trim(0)] == ["other", "long"]
