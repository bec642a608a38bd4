"""One suite over every log: an append checks the idempotency keys of what it brings."""

import asyncpg
import msgspec
import pytest

from headrace.clock import mint
from headrace.log.memory import MemoryLog
from headrace.log.port import Batch, KeptAnswer, Log, Tenure
from headrace.vocabulary import IDEMPOTENCY_KEPT_S
from tests.contracts.log_kit import CLOCK, batch, claim, event

KEPT_MS = int(IDEMPOTENCY_KEPT_S * 1000)
AGE = "update headrace.answers set at = at - $1 where key = any($2)"


@pytest.fixture
def log(any_log: Log) -> Log:
    return any_log


def keyed(tenure: Tenure, *keys: str, after: int = 0) -> Batch:
    """Give a batch that makes a stream for each key."""
    streams = [mint(CLOCK, "run", tenure.partition) for _ in keys]
    made = batch(tenure, *(event(stream, 1) for stream in streams), after=after)
    made.answers = [
        KeptAnswer(key, f"sha256:{key}", stream, f'"{stream}"'.encode())
        for key, stream in zip(keys, streams, strict=True)
    ]
    return made


async def age(log: Log, url: str | None, ms: int, *keys: str) -> None:
    """Let answers be older than they are."""
    if url is None:
        assert isinstance(log, MemoryLog)
        for place, (kept, at) in list(log._answers.items()):
            if place[2] in keys:
                log._answers[place] = kept, at - ms
        return
    connection = await asyncpg.connect(url)
    await connection.execute(AGE, ms, list(keys))
    await connection.close()


async def written(log: Log, *places: Tenure) -> list[tuple[int, int]]:
    return [(one.partition, len(await log.read("runs", one.partition, 0, 100))) for one in places]


async def test_a_kept_key_refuses_an_append_that_names_what_is_kept(log: Log) -> None:
    tenure = (await claim(log))[0]
    first = keyed(tenure, "a", "b")
    assert (await log.append_events([first])).kept is None
    refused = await log.append_events([keyed(tenure, "new", "b", "a", after=2)])
    assert refused.kept == {("runs", 0, answer.key): answer for answer in first.answers}
    assert (refused.positions, refused.stale) == ({}, ())
    assert await written(log, tenure) == [(0, 2)]
    assert await log.answers([("runs", 0, "new")]) == {}, "nothing of it was written, its other keys neither"
    again = await log.append_events([keyed(tenure, "new", after=2)])
    assert (again.positions, again.kept) == ({("runs", 0): 3}, None)
    assert [one async for one in log.verify() if not isinstance(one, tuple)] == []


async def test_a_kept_key_refuses_the_whole_append_of_all_partitions(log: Log) -> None:
    tenures = await claim(log)
    one, two, three = tenures[0], tenures[1], tenures[2]
    await log.append_events([keyed(one, "a"), keyed(two, "a")])
    late = keyed(three, "a")
    late.epoch -= 1
    refused = await log.append_events([keyed(one, "b", after=1), keyed(two, "a", after=1), late])
    assert refused.positions == {}
    assert refused.stale == (("runs", 2),)
    assert refused.kept is not None
    assert set(refused.kept) == {("runs", 1, "a")}, "a key is one of its partition"
    assert await written(log, one, two, three) == [(0, 1), (1, 1), (2, 0)]
    assert (await log.append_events([keyed(one, "b", after=1), batch(two, after=1)])).kept is None


async def test_a_stale_partition_s_keys_concern_nobody(log: Log) -> None:
    tenures = await claim(log)
    await log.append_events([keyed(tenures[0], "a")])
    stale = keyed(tenures[0], "a")
    alone = await log.append_events([stale])
    assert (alone.stale, alone.kept) == ((("runs", 0),), None)
    both = await log.append_events([stale, keyed(tenures[1], "a")])
    assert (both.stale, both.kept, both.positions) == ((("runs", 0),), None, {("runs", 1): 1})


@pytest.mark.parametrize("others", [0, 1])
async def test_an_expired_answer_refuses_nothing_and_is_written_over(
    log: Log, any_log_url: str | None, others: int
) -> None:
    tenures = await claim(log)
    first = keyed(tenures[0], "a", "b")
    await log.append_events([first])
    await age(log, any_log_url, KEPT_MS + 1_000, "a")
    await age(log, any_log_url, KEPT_MS - 60_000, "b")
    second = [keyed(tenures[0], "a", after=2), *(batch(tenures[n + 1]) for n in range(others))]
    appended = await log.append_events(second)
    assert appended.kept is None
    assert appended.positions["runs", 0] == 3
    assert await log.answers([("runs", 0, "a")]) == {("runs", 0, "a"): second[0].answers[0]}
    third = await log.append_events([keyed(tenures[0], "b", after=3), *(batch(tenures[n + 1]) for n in range(others))])
    assert third.kept == {("runs", 0, "b"): first.answers[1]}, "a minute before its end it is kept"


async def test_what_was_written_over_in_vain_is_forgotten_as_what_had_expired(
    log: Log, any_log_url: str | None
) -> None:
    tenure = (await claim(log))[0]
    await log.append_events([keyed(tenure, "old", "kept")])
    await age(log, any_log_url, KEPT_MS + 1_000, "old")
    refused = await log.append_events([keyed(tenure, "old", "kept", after=2)])
    assert refused.kept is not None
    assert set(refused.kept) == {("runs", 0, "kept")}
    assert await log.answers([("runs", 0, "old")]) == {}
    assert (await log.append_events([keyed(tenure, "old", after=2)])).positions == {("runs", 0): 3}


async def test_a_batch_without_events_keeps_an_answer_and_is_refused_for_one(log: Log) -> None:
    tenure = (await claim(log))[0]
    said = KeptAnswer("a", "sha256:a", mint(CLOCK, "run", 0), b"{}")
    for expected in (None, {("runs", 0, "a"): said}):
        made = batch(tenure)
        made.answers = [said]
        assert (await log.append_events([made])).kept == expected


SAID = KeptAnswer("k", "sha256:1", "push", b"{}")
ODD = KeptAnswer("k \x00 \ud800", "sha256:1", "push \x00", b"{}")


async def test_an_answer_that_no_append_brings_is_kept_once(log: Log) -> None:
    other = msgspec.structs.replace(SAID, request_digest="sha256:2", answer=b"[]")
    assert await log.keep_answer("triggers", 0, SAID) is None
    for again in (SAID, other, msgspec.structs.replace(SAID, answer=b"")):
        assert await log.keep_answer("triggers", 0, again) == SAID
    assert await log.keep_answer("triggers", 1, other) is None, "a key is one of its place"
    assert await log.answers([("triggers", 0, "k")]) == {("triggers", 0, "k"): SAID}


async def test_an_answer_that_was_yet_to_come_is_kept_in_place_of_an_empty_one_of_its_request(log: Log) -> None:
    claim = msgspec.structs.replace(SAID, answer=b"")
    other = msgspec.structs.replace(SAID, request_digest="sha256:2")
    assert await log.keep_answer("triggers", 0, claim) is None
    assert await log.keep_answer("triggers", 0, claim) == claim
    assert await log.keep_answer("triggers", 0, other) == claim
    assert await log.keep_answer("triggers", 0, SAID) is None
    assert await log.keep_answer("triggers", 0, claim) == SAID


async def test_an_answer_is_kept_in_place_of_an_expired_one(log: Log, any_log_url: str | None) -> None:
    other = msgspec.structs.replace(SAID, request_digest="sha256:2")
    await log.keep_answer("triggers", 0, SAID)
    await age(log, any_log_url, KEPT_MS - 60_000, "k")
    assert await log.keep_answer("triggers", 0, other) == SAID
    await age(log, any_log_url, 61_000, "k")
    assert await log.keep_answer("triggers", 0, other) is None
    assert await log.answers([("triggers", 0, "k")]) == {("triggers", 0, "k"): other}


async def test_an_answer_is_kept_under_a_key_that_no_database_can_hold(log: Log) -> None:
    assert await log.keep_answer("triggers", 0, ODD) is None
    kept = await log.keep_answer("triggers", 0, ODD)
    assert kept is not None
    assert (kept.key, kept.answer) == (ODD.key, ODD.answer)
