"""What the api knows of workers by what it heard of them: whom it counts on, whom it misses, and what it believes."""

import asyncio
import json
from typing import Any

import pytest

from headrace import beats, codec
from headrace.keys import COMMANDS, OWNERS, POOL, Keys
from headrace.testing.virtual import VirtualClock, in_virtual_time
from headrace.wire import Beat, Blocked, ForgetWorkers, Holding, Probe
from headrace_api.presence import OWNERS_KNOWN_MAX, POOLS_KNOWN_MAX, Presence, Seen

KEYS = Keys(master=b"k" * 32)
OF_THE_API = Keys(
    single={COMMANDS: KEYS.key(COMMANDS), OWNERS: KEYS.key(OWNERS), f"{POOL}known": KEYS.key(f"{POOL}known")}
)
"""An api that was not given the master: it can check the seals of what it was given keys for."""


class Place:
    """What an api with some keys knows of workers, on virtual time."""

    def __init__(self, keys: Keys = KEYS) -> None:
        self.clock = VirtualClock()
        self.presence = Presence(self.clock, keys)

    def beat(self, worker: str = "wrk_1", *pools: str, by: str = "runner", **more: Any) -> Beat:
        beat = Beat(worker=worker, service="s", host="h", pools=pools or ("runner",), slots=2, **more)
        self.hear(POOL + by, beat)
        return beat

    def hear(self, label: str, told: Beat | Probe | ForgetWorkers, keys: Keys = KEYS) -> None:
        self.presence.deliver(keys.pack(label, codec.encode(told)))

    def seen(self, worker: str = "wrk_1") -> Seen:
        seen = self.presence.worker(worker)
        assert seen is not None
        return seen

    def shown(self, worker: str = "wrk_1") -> dict[str, Any]:
        return self.presence.view(self.seen(worker), "default")


def held(number: int = 1, *, run_id: str = "run_1", **more: Any) -> Holding:
    return Holding(attempt_id=f"att_{number}", tool="look", since=1, run_id=run_id, step="s", **more)


@in_virtual_time
async def test_a_beat_whose_seal_cannot_be_checked_is_shown_as_such() -> None:
    place = Place(OF_THE_API)
    place.beat("wrk_known", by="known")
    place.beat("wrk_other", by="other")
    assert [(each["id"], each["verified"]) for each in place.presence.workers("default")] == [
        ("wrk_known", True),
        ("wrk_other", False),
    ]


@in_virtual_time
async def test_parts_of_a_beat_are_put_together_only_with_others_as_well_sealed() -> None:
    holding = tuple(held(number, message="m" * 400) for number in range(3_000))
    whole = Beat(worker="wrk_1", service="s", host="h", pools=("p",), slots=1, holding=holding, at=1)
    first, *others = beats.messages(whole)
    assert others
    place = Place(OF_THE_API)
    place.presence.deliver(KEYS.pack(f"{POOL}known", first))
    for part in others:
        place.presence.deliver(KEYS.pack(f"{POOL}other", part))
    assert place.presence.known() == []
    for part in (first, *others):
        place.presence.deliver(KEYS.pack(f"{POOL}other", part))
    assert (place.seen().beat.holding, place.seen().verified) == (holding, False)


@in_virtual_time
async def test_what_carries_a_wrong_seal_or_is_no_beat_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    place = Place()
    stranger = Keys(master=b"x" * 32)
    for label in (f"{POOL}runner", COMMANDS):
        place.hear(label, Beat(worker="wrk_1", service="s", host="h", pools=("p",), slots=1), stranger)
    assert (place.presence.known(), place.presence.refused) == ([], 2)
    assert "no valid seal (2 so far)" in caplog.text
    place.presence.deliver(KEYS.pack(f"{POOL}runner", b"{}"))
    assert "a beat under b'pool:runner' cannot be read" in caplog.text
    place.presence.deliver(KEYS.pack("blobs", codec.encode(Beat(worker="w", service="s", host="h", pools=(), slots=1))))
    assert place.presence.known() == [], "it was sealed for something else"


@in_virtual_time
async def test_a_word_to_forget_counts_only_if_its_seal_was_checked() -> None:
    place = Place(Keys(single={f"{POOL}runner": KEYS.key(f"{POOL}runner")}))
    place.beat()
    await place.clock.sleep(61)
    place.hear(COMMANDS, ForgetWorkers(workers=("wrk_1",), pools=("runner",)))
    assert place.presence.worker("wrk_1") is not None
    assert place.presence.missed() == ["runner"]


@in_virtual_time
async def test_who_waits_for_an_answer_hears_once_that_an_owner_serves_again() -> None:
    place, heard = Place(), []
    place.presence.served = lambda: heard.append(place.clock.monotonic())

    def probed(owner: str, served: int) -> int:
        place.hear(OWNERS, Probe(owner=owner, nonce="n", served=served))
        return len(heard)

    assert [probed("a", 0), probed("a", 1), probed("a", 1), probed("b", 1), probed("a", 2)] == [0, 1, 1, 2, 3]
    assert probed("a", 1) == 4, "its process is another one, which begins to count anew"
    assert [probed(f"other_{number}", 1) for number in range(OWNERS_KNOWN_MAX - 1)][-1] == 4 + OWNERS_KNOWN_MAX - 1
    before = len(heard)
    assert probed("a", 1) == before, "of very many owners those are known that moved last"
    assert probed("b", 1) == before + 1


@in_virtual_time
async def test_pools_are_missed_by_name_once_nobody_takes_work_of_them() -> None:
    place = Place()
    place.beat("wrk_1", "b", "a", "c")
    assert (place.presence.pools(), place.presence.missed()) == ({"a", "b", "c"}, [])
    served_at = place.clock.now_ms()
    await place.clock.sleep(1)
    place.beat("wrk_1", "b", "a", "c", draining=True)
    assert place.presence.missed() == ["a", "b", "c"]
    assert place.presence.pool_served_at("a") == served_at, "who drains takes no work"
    assert place.presence.pool_served_at("d") is None
    place.presence.forget((), ("c", "d"))
    place.beat("wrk_2", "b", "d", draining=True)
    assert place.presence.missed() == ["a", "b"]
    place.beat("wrk_2", "b")
    assert place.presence.missed() == ["a"]
    await place.clock.sleep(11)
    assert place.presence.missed() == ["a", "b"], "whose attempts count as lost takes no work"


@in_virtual_time
async def test_of_very_many_pools_those_that_were_known_first_are_followed() -> None:
    place = Place()
    place.beat("wrk_1", "mine", *(f"pool_{number}" for number in range(POOLS_KNOWN_MAX - 1)))
    await place.clock.sleep(1)
    place.beat("wrk_2", "mine", "one_too_many")
    assert place.presence.pool_served_at("mine") == place.clock.now_ms()
    assert place.presence.pool_served_at("one_too_many") is None


@in_virtual_time
async def test_those_that_drain_a_pool_are_named_while_they_live() -> None:
    place = Place()
    place.beat("wrk_gone", "p", draining=True)
    await place.clock.sleep(10)
    place.beat("wrk_b", "p", draining=True)
    place.beat("wrk_a", "p", draining=True)
    place.beat("wrk_taking", "p")
    place.beat("wrk_other", "q", draining=True)
    assert place.presence.draining("p") == ["wrk_a", "wrk_b"]
    assert [seen.beat.worker for seen in place.presence.serving("p")] == ["wrk_taking"]


@in_virtual_time
async def test_workers_stand_by_name_and_are_forgotten_after_two_minutes_of_silence() -> None:
    place = Place()
    for worker in ("wrk_c", "wrk_a", "wrk_b"):
        place.beat(worker)
    assert [seen.beat.worker for seen in place.presence.known()] == ["wrk_a", "wrk_b", "wrk_c"]
    await place.clock.sleep(119)
    place.beat("wrk_b")
    assert place.presence.worker("wrk_a") is not None
    await place.clock.sleep(2)
    assert place.presence.worker("wrk_a") is None
    assert [seen.beat.worker for seen in place.presence.known()] == ["wrk_b"]
    await place.clock.sleep(121)
    assert place.presence.known() == []


@in_virtual_time
async def test_what_a_run_has_in_hands_is_its_own_and_of_workers_that_are_not_stale() -> None:
    place = Place()
    place.beat("wrk_old", holding=(held(1),))
    await place.clock.sleep(61)
    place.beat("wrk_new", holding=(held(2), held(3, run_id="run_2")))
    assert [each.holding.attempt_id for each in place.presence.held_for("run_1")] == ["att_2"]
    assert [each.holding.attempt_id for each in place.presence.held()] == ["att_2", "att_3"]


@in_virtual_time
async def test_a_beat_that_is_waited_for_is_the_first_that_fits_however_many_follow() -> None:
    place = Place()
    with place.presence.expecting(lambda beat: beat.done_total > 1) as expected:
        place.beat(done_total=1)
        assert not expected.done()
        place.beat(done_total=2)
        place.beat(done_total=3)
        assert (await expected).beat.done_total == 2
    with place.presence.expecting(lambda beat: beat.leaving) as expected:
        place.beat(leaving=True)
        assert (await asyncio.wait_for(expected, 1)).beat.leaving


@in_virtual_time
async def test_a_word_to_forget_names_workers_and_pools_to_everybody() -> None:
    here, there = Place(), Place()
    for place in (here, there):
        place.beat("wrk_1", "mine")
    await here.clock.sleep(61)
    there.presence.deliver(here.presence.forgetting(["wrk_1"], ["mine"]))
    assert (there.presence.known(), there.presence.missed()) == ([], [])


@in_virtual_time
async def test_what_a_beat_says_of_a_worker_is_shown() -> None:
    place = Place()
    place.beat(started_at=1_000, blocked=Blocked(since=2_000), tools=(codec.raw({"name": "look", "state": "ready"}),))
    shown = place.shown()
    assert (shown["started_at"], shown["status"]) == ("1970-01-01T00:00:01.000Z", "idle")
    assert shown["blocked"] == {"since": "1970-01-01T00:00:02.000Z", "tool": "", "attempt_id": ""}
    assert place.presence.problems() == [
        "worker wrk_1 is blocked since 1970-01-01T00:00:02.000Z by no tool: the stack stands in its log"
    ]
    assert place.presence.tool_stats() == {"look": [{"name": "look", "state": "ready", "worker": "wrk_1"}]}
    place.beat(holding=(held(workspace="other", message="a secret of theirs"),))
    assert (place.shown()["started_at"], place.shown()["status"]) == (None, "processing")
    assert "a secret of theirs" not in json.dumps(place.shown())
    await place.clock.sleep(61)
    assert (place.shown()["status"], place.presence.tool_stats(), place.presence.problems()) == ("stale", {}, [])
