"""How states are made of long histories, what they weigh in memory, and how often they are kept."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from headrace import codec, ids
from headrace.clock import SystemClock
from headrace.events.base import Event
from headrace.events.runs import StepSucceeded
from headrace.host.items import Item, Origin
from headrace.host.library import CachedLibrary
from headrace.host.loading import (
    EVENT_BYTES,
    FOLDED_BYTES_MAX,
    SNAPSHOT_EVENTS,
    SNAPSHOT_EVENTS_MAX,
    States,
    is_due,
)
from headrace.host.tenure import Held, Stream
from headrace.log.memory import MemoryLog
from headrace.log.port import Batch, NewEvent
from headrace.vocabulary import LOG_RUNS
from tests.shared.host_toy import Add, Counter, Toy

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


def test_what_is_over_leaves_memory_and_not_that_in_which_its_address_is_used_again_meanwhile() -> None:
    """Else the next use of a key would begin a third stream beside the second, whose append is still out (seed 1231)."""
    states = States(MemoryLog(SystemClock()), CachedLibrary())
    over, again = stream("key"), stream("key")
    states.grown(over, 1, 1)
    states.grown(again, 1, 1)  # decided while the end of the one before was on its way to the log
    states.retire(over)
    assert len(states) == 1
    states.retire(again)
    assert len(states) == 0


LONG = ids.derive(ids.RUN, 0, 0, "toy", "long")
LENGTHS = 5
"""How many times FOLDED_BYTES_MAX a long history takes."""


async def _long_history(log: MemoryLog, *, boom_at: int = 0, lengths: int = LENGTHS) -> tuple[Held, int]:
    """Give a tenure whose partition holds one long stream, and the number of its events."""
    (tenure,) = (await log.heartbeat("a", {LOG_RUNS: 1}, lease_s=60)).tenures
    held = Held.begin(tenure, 60.0, Toy(), None)
    number, size, events = 0, 0, list[NewEvent]()
    while size <= lengths * FOLDED_BYTES_MAX:
        number += 1
        added = {"amount": 1, "boom": "evolve" if number == boom_at else "", "tell": "x" * 1_000}
        data = codec.encode(StepSucceeded(step="added", output=codec.raw(added)))
        events.append(NewEvent(LONG, number, StepSucceeded.type_name(), 1, "default", 1, data, b"{}"))
        size += len(data)
    await log.append_events([Batch(log=LOG_RUNS, partition=0, epoch=held.epoch, expected_position=0, events=events)])
    return held, number


async def _loading(states: States, held: Held, seen: Callable[[], None]) -> None:
    """Load the stream, and let `seen` be called in every turn that others have meanwhile."""
    async with asyncio.TaskGroup() as group:
        load = group.create_task(states.load([Item(held, Origin.HOST, LONG, Add())]))
        while not load.done():
            await asyncio.sleep(0)
            seen()


async def test_a_long_history_is_folded_in_pieces_so_that_leases_are_renewed_meanwhile() -> None:
    log = MemoryLog(SystemClock(), partitions={LOG_RUNS: 1})
    states, turns = States(log, CachedLibrary()), list[int]()
    held, events = await _long_history(log)
    await _loading(states, held, lambda: turns.append(len(states)))
    assert turns.count(0) >= LENGTHS - 1
    made = states.stream(held, LONG, "default")
    assert (made.version, made.state.total, made.since) == (events, events, events)


async def test_a_tenure_that_ends_while_its_history_is_folded_leaves_nothing_in_memory() -> None:
    log = MemoryLog(SystemClock(), partitions={LOG_RUNS: 1})
    states = States(log, CachedLibrary())
    held, _ = await _long_history(log)

    def end() -> None:
        held.over = True

    await _loading(states, held, end)
    assert len(states) == 0


BODY = b"what a fold needs"


class Needy(Toy):
    """A room that folds the last event only with a body at hand."""

    last = 0

    def evolve(self, state: Counter, event: Event, at: int) -> Counter:
        if state.total == self.last - 1:
            self.library.body(codec.sha256(BODY))
        return super().evolve(state, event, at)


class Ending(MemoryLog):
    """A log under which a tenure ends while it gives a body."""

    held: Held | None = None

    async def get_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Give it, too late."""
        assert self.held is not None
        self.held.over = True
        return {codec.sha256(BODY): BODY}


async def test_a_tenure_that_ends_while_a_body_is_fetched_leaves_nothing_in_memory() -> None:
    log, library = Ending(SystemClock(), partitions={LOG_RUNS: 1}), CachedLibrary()
    states = States(log, library)
    log.held, last = await _long_history(log, lengths=1)
    log.held.room = needy = Needy(library)
    needy.last = last
    await states.load([Item(log.held, Origin.HOST, LONG, Add())])
    assert len(states) == 0


async def test_a_mistake_in_a_long_history_spoils_the_message_that_needs_it_not_those_beside_it() -> None:
    log = MemoryLog(SystemClock(), partitions={LOG_RUNS: 1})
    states = States(log, CachedLibrary())
    held, _ = await _long_history(log, boom_at=3)
    await _loading(states, held, lambda: None)
    with pytest.raises(RuntimeError, match="a mistake in evolve"):
        states.stream(held, LONG, "default")
