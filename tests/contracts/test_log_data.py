"""One suite over every log: data that is hard to keep, rows, and what is kept beside events."""

import asyncio
import itertools
from typing import Any

import msgspec
import pytest

from headrace import codec, ids
from headrace.clock import mint
from headrace.codec import Raw
from headrace.decider import Laid, Row
from headrace.errors import ValidationError
from headrace.log.port import DataError, Due, KeptAnswer, Log, Parked
from headrace.log.tables import TABLES
from headrace.vocabulary import LOG_PARTITIONS
from headrace.wire import Line
from tests.contracts.log_kit import CLOCK, LEASE_S, batch, breaks, claim, event


@pytest.fixture
def log(any_log: Log) -> Log:
    return any_log


# --- data that is hard to keep -----------------------------------------------------------------------------------

ODD = ["", "sha256:\0", "no digest", "sha256:" + "x" * 10_000]


@pytest.mark.parametrize("digest", ODD)
async def test_a_digest_that_is_none_names_no_body(log: Log, digest: str) -> None:
    good = b"a body"
    await log.put_blob(codec.sha256(good), good, "default")
    assert await log.get_blobs([digest, codec.sha256(good)]) == {codec.sha256(good): good}
    assert await log.blobs_of("default", [digest, codec.sha256(good)]) == {codec.sha256(good)}


HARD = {
    "NUL": b'{"text": "a\\u0000b"}',
    "lone surrogate": b'{"text": "a\\ud800b"}',
    "a number beyond a double": b'{"number": 1e999999}',
    "everything else": '{"text": "ü 🌊 \\u2028", "number": 1.10000000000000000001}'.encode(),
}


@pytest.mark.parametrize("data", HARD.values(), ids=HARD.keys())
async def test_hard_data_passes_through_events_blobs_and_rows(log: Log, data: bytes) -> None:
    tenure = (await claim(log))[0]
    run = mint(CLOCK, "run", 0)
    value = codec.loads(data)
    step = Row("steps", {"run_id": run, "step": "s", "output": value, "detail": Raw(data)})
    made = batch(tenure, event(run, 1, data), rows=[step])
    made.blobs = {codec.sha256(data): data}
    await log.append_events([made])
    assert (await log.stream("runs", run))[0].data == data
    assert (await log.get_blobs([codec.sha256(data)])) == {codec.sha256(data): data}
    row = await log.row("steps", {"run_id": run, "step": "s"})
    assert row is not None
    assert row["detail"] == value
    assert await breaks(log) == []


async def test_texts_of_rows_show_what_no_text_column_can_hold(log: Log) -> None:
    tenure = (await claim(log))[0]
    run = mint(CLOCK, "run", 0)
    row = Row("runs", {"id": run, "partition": 0, "error_message": "a\x00b\ud800c", "name": "ü🌊"})
    await log.append_events([batch(tenure, event(run, 1), rows=[row])])
    kept = await log.row("runs", {"id": run})
    assert kept is not None
    assert kept["error_message"] == "a\u2400b\ufffdc"
    assert kept["name"] == "ü🌊"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"nonsense", b"\xff\xfe", b"NaN", '{"a":"\ud800"}'.encode("utf-8", "surrogatepass")]
)
async def test_row_84_bytes_that_are_no_json_are_refused(log: Log, data: bytes) -> None:
    tenure = (await claim(log))[0]
    with pytest.raises(DataError):
        await log.append_events([batch(tenure, event(mint(CLOCK, "run", 0), 1, data))])
    assert (await log.append_events([batch(tenure)])).stale == (), "nothing was written"


async def test_row_84_a_time_in_the_future_is_refused(log: Log) -> None:
    tenure = (await claim(log))[0]
    ahead = msgspec.structs.replace(event(mint(CLOCK, "run", 0), 1), at=CLOCK.now_ms() + 120_000)
    with pytest.raises(DataError):
        await log.append_events([batch(tenure, ahead)])


async def test_a_stream_of_another_partition_is_refused(log: Log) -> None:
    tenure = (await claim(log))[0]
    for stream in (mint(CLOCK, "run", 1), "run_nonsense"):
        with pytest.raises(DataError):
            await log.append_events([batch(tenure, event(stream, 1))])


@pytest.mark.parametrize(
    "row",
    [
        Row("nowhere", {"id": "x"}),
        Row("runs", {"id": "x", "colour": "red"}),
        Row("runs", {"id": "x", "version": "one"}),
        Row("runs", {"id": "x", "version": 2**40}),
        Row("runs", {"id": "x", "busy": 1}),
        Row("runs", {"status": "queued"}),
    ],
    ids=repr,
)
async def test_a_row_that_its_table_cannot_hold_is_refused_with_all_that_came_with_it(log: Log, row: Row) -> None:
    tenure = (await claim(log))[0]
    with pytest.raises(DataError):
        await log.append_events([batch(tenure, event(mint(CLOCK, "run", 0), 1), rows=[row])])
    assert await log.read("runs", 0, 0, 1) == []


async def test_streams_of_any_month_are_kept(log: Log) -> None:
    tenure = (await claim(log))[0]
    long_ago = ids.make("run", 1_600_000_000_000, bytes(16), 0)
    timeless = ids.derive("run", ids.TIMELESS_MS, 0, "x")
    await log.append_events([batch(tenure, event(long_ago, 1), event(timeless, 1))])
    await log.append_events([batch(tenure, event(long_ago, 2), after=2)])
    assert len(await log.stream("runs", long_ago)) == 2
    assert [one.position for one in await log.read("runs", 0, 0, 9)] == [1, 2, 3]


# --- what is kept beside events ----------------------------------------------------------------------------------


async def test_answers_come_back_under_their_key_and_partition(log: Log) -> None:
    tenure = (await claim(log))[0]
    run = mint(CLOCK, "run", 0)
    answer = KeptAnswer("key \x00 1", "sha256:1", run, b'{"status":201}')
    made = batch(tenure, event(run, 1))
    made.answers = [answer]
    await log.append_events([made])
    kept, other, elsewhere = ("runs", 0, "key \x00 1"), ("runs", 0, "other"), ("runs", 1, "key \x00 1")
    assert await log.answers([kept, other]) == {kept: answer}
    assert await log.answers([elsewhere, ("catalogue", 0, "key \x00 1")]) == {}


async def test_answers_of_several_partitions_and_logs_are_read_together(log: Log) -> None:
    holdings = await log.heartbeat("one", {"runs": 1, "approvals": 1}, lease_s=LEASE_S)
    tenures = {(tenure.log, tenure.partition): tenure for tenure in holdings.tenures}
    kept: dict[tuple[str, int, str], KeptAnswer] = {}
    batches = []
    for (name, prefix), partition in itertools.product((("runs", "run"), ("approvals", "apr")), (0, 1)):
        stream = mint(CLOCK, prefix, partition)
        made = batch(tenures[name, partition], event(stream, 1))
        made.answers = [KeptAnswer(key, f"sha256:{key}", stream, f'"{stream} {key}"'.encode()) for key in ("a", "b")]
        kept |= {(name, partition, answer.key): answer for answer in made.answers}
        batches.append(made)
    await log.append_events(batches)
    assert await log.answers([*kept, ("runs", 0, "c"), ("runs", 2, "a")]) == kept
    some = [("runs", 0, "a"), ("runs", 1, "b"), ("approvals", 1, "a")]
    assert await log.answers(some) == {one: kept[one] for one in some}


async def test_a_key_asked_for_twice_is_answered_once_and_no_key_by_nothing(log: Log) -> None:
    tenure = (await claim(log))[0]
    run = mint(CLOCK, "run", 0)
    made = batch(tenure, event(run, 1))
    made.answers = [KeptAnswer("k \x00", "sha256:1", run, b"{}")]
    await log.append_events([made])
    key, alike = ("runs", 0, "k \x00"), ("runs", 0, "k \u2400")
    assert await log.answers([key, key]) == {key: made.answers[0]}
    both = {one: KeptAnswer(one[2], "sha256:1", run, b"{}") for one in (key, alike)}
    assert await log.answers([key, alike, key]) == both, "keys that are kept alike are one key, whichever is asked for"
    assert await log.answers([]) == {}


async def test_blobs_are_kept_under_their_digest_and_no_other(log: Log) -> None:
    body = b"\x00\xff" * 10
    await log.put_blob(codec.sha256(body), body)
    await log.put_blob(codec.sha256(body), body)
    assert await log.get_blobs([codec.sha256(body), codec.sha256(b"unknown")]) == {codec.sha256(body): body}
    with pytest.raises(ValidationError):
        await log.put_blob(codec.sha256(b"another"), body)


async def test_a_body_is_kept_once_and_belongs_to_each_workspace_that_put_it(log: Log) -> None:
    body, nobodys, odd = b"shared", b"nobody's", "odd \x00 name"
    digests = [codec.sha256(body), codec.sha256(nobodys), codec.sha256(b"unknown")]
    for workspace in ("one", "two", "one", odd):
        await log.put_blob(digests[0], body, workspace)
    await log.put_blob(digests[1], nobodys)
    for workspace, owned in (("one", {digests[0]}), ("two", {digests[0]}), (odd, {digests[0]}), ("three", set())):
        assert await log.blobs_of(workspace, digests) == owned
    assert await log.get_blobs(digests) == {digests[0]: body, digests[1]: nobodys}
    with pytest.raises(ValidationError):
        await log.put_blob(digests[0], nobodys, "three")
    assert await log.blobs_of("three", digests) == set()


async def test_due_and_busy_streams_are_found_by_their_rows(log: Log) -> None:
    tenures = await claim(log)
    runs = [mint(CLOCK, "run", partition) for partition in (0, 0, 0, 1)]
    rows = [
        Row("runs", {"id": run, "partition": ids.partition_of(run), "wake_at": at, "busy": busy})
        for run, at, busy in zip(runs, (300, 100, None, 200), (True, False, True, True), strict=True)
    ]
    await log.append_events(
        [
            batch(tenures[0], *(event(run, 1) for run in runs[:3]), rows=rows[:3]),
            batch(tenures[1], event(runs[3], 1), rows=rows[3:]),
        ]
    )
    assert [(due.stream_id, due.wake_at) for due in await log.due("runs", [0, 1], 250, 9)] == [
        (runs[1], 100),
        (runs[3], 200),
    ]
    (first,) = await log.due("runs", [0], 1_000, 1)
    assert first.stream_id == runs[1]
    assert [due.stream_id for due in await log.due("runs", [0, 1], 1_000, 1, first)] == [runs[3]]
    assert [due.stream_id for due in await log.due("runs", [0, 1], 250, 9, first)] == [runs[3]]
    for after, follow in ((Due("", 200), [runs[3], runs[0]]), (Due(runs[3], 200), [runs[0]]), (Due(runs[0], 300), [])):
        assert [due.stream_id for due in await log.due("runs", [0, 1], 1_000, 9, after)] == follow
    assert await log.busy("runs", 0) == sorted([runs[0], runs[2]])
    assert await log.busy("approvals", 0) == []


async def test_a_row_is_replaced_whole_and_of_two_in_one_batch_the_later_stands(log: Log) -> None:
    tenure = (await claim(log))[0]
    run = mint(CLOCK, "run", 0)
    rows = [Row("runs", {"id": run, "status": status, "labels": {"n": 1}}) for status in ("queued", "running")]
    await log.append_events([batch(tenure, event(run, 1), rows=rows)])
    assert (await log.row("runs", {"id": run}) or {})["status"] == "running"
    await log.append_events(
        [batch(tenure, event(run, 2), after=1, rows=[Row("runs", {"id": run, "status": "failed"})])]
    )
    kept = await log.row("runs", {"id": run}) or {}
    assert (kept["status"], kept["labels"]) == ("failed", None)


def laid(run: str, *, stands: bool, **columns: Any) -> Laid:
    whole = {"id": run, "workspace": "default", "labels": '{"n":1}', "created_at": 7, **columns}
    return Laid("runs", tuple(whole.get(name) for name in TABLES["runs"].columns), TABLES["runs"].columns, stands)


async def test_a_row_that_stands_moves_and_keeps_what_never_changes(log: Log) -> None:
    tenure = (await claim(log))[0]
    runs = [mint(CLOCK, "run", 0) for _ in range(2)]
    new = [laid(run, stands=False, status="queued", version=1, detail='{"a":"\\u0000"}') for run in runs]
    at_once = laid(runs[0], stands=True, status="running", version=2, waiting_for="timer")
    await log.append_events([batch(tenure, *(event(run, 1) for run in runs), rows=[*new, at_once])])
    first = await log.row("runs", {"id": runs[0]}) or {}
    assert (first["status"], first["version"], first["created_at"]) == ("running", 2, 7)

    moves = [laid(run, stands=True, status="waiting", version=3, detail='{"b":"\\ud800"}') for run in runs]
    last = laid(runs[1], stands=True, status="failed", version=4, wake_at=5, busy=True)
    await log.append_events([batch(tenure, event(runs[0], 2), after=2, rows=[*moves, last])])
    kept = [await log.row("runs", {"id": run}) or {} for run in runs]
    assert [(row["status"], row["version"], row["wake_at"], row["busy"]) for row in kept] == [
        ("waiting", 3, None, None),
        ("failed", 4, 5, True),
    ]
    assert [(row["labels"], row["created_at"], row["workspace"]) for row in kept] == [({"n": 1}, 7, "default")] * 2
    assert kept[0]["waiting_for"] is None, "a column that moves and is not given is empty"
    assert kept[0]["detail"] == {"b": "\ud800"}

    stale = batch(tenure, event(runs[0], 3), after=9, rows=[laid(runs[0], stands=True, status="cancelled")])
    assert (await log.append_events([stale])).stale
    assert (await log.row("runs", {"id": runs[0]}) or {})["status"] == "waiting"


async def test_snapshots_shorten_a_history_and_those_of_another_fingerprint_are_ignored(log: Log) -> None:
    tenure = (await claim(log))[0]
    run, other = mint(CLOCK, "run", 0), mint(CLOCK, "run", 0)
    await log.append_events([batch(tenure, *(event(run, version) for version in (1, 2, 3)))])
    await log.keep_snapshots("runs", "f1", {run: (2, b"state")})
    short = (await log.histories("runs", "f1", [run, other]))[run]
    assert (short.snapshot, short.snapshot_version, [one.version for one in short.events]) == (b"state", 2, [3])
    whole = await log.histories("runs", "f2", [run, other])
    assert (whole[run].snapshot, [one.version for one in whole[run].events]) == (None, [1, 2, 3])
    assert whole[other].events == ()


async def test_parked_messages_are_shown_the_newest_first(log: Log) -> None:
    for number in (1, 2):
        await log.park(Parked(source="trigger\x00", error=f"error {number}", body=b"\x00\xff", at=number))
    parked = await log.parked()
    assert [one.error for one in parked] == ["error 2", "error 1"]
    assert (parked[0].source, parked[0].body) == ("trigger\u2400", b"\x00\xff")


async def test_a_parked_message_that_was_seen_to_is_let_go_and_its_id_comes_never_again(log: Log) -> None:
    for number in (1, 2):
        await log.park(Parked(source="trigger", error=f"error {number}", body=b"", at=number))
    second, first = [one.id for one in await log.parked()]
    assert [one.id for one in await log.parked(9, [first, first + 10_000])] == [first]
    assert await log.parked(9, []) == []
    assert await log.dismiss_parked([second, second + 7]) == [second]
    assert await log.dismiss_parked([second]) == []
    await log.park(Parked(source="trigger", error="error 3", body=b"", at=3))
    left = await log.parked()
    assert [one.error for one in left] == ["error 3", "error 1"]
    assert left[0].id not in {first, second}
    assert await log.dismiss_parked([left[0].id, first]) == [first, left[0].id]
    assert await log.parked() == []


async def test_lines_are_unique_by_attempt_and_sequence_and_read_from_a_cursor(log: Log) -> None:
    run, other = mint(CLOCK, "run"), mint(CLOCK, "run")

    def line(of: str, sequence: int, text: str) -> Line:
        attempt = "att_" + of[4:]
        return Line(run_id=of, attempt_id=attempt, step="s", sequence=sequence, at=5, text=text, workspace="default")

    assert await log.put_lines([line(run, 1, "a"), line(run, 2, "b\x00"), line(other, 1, "x")]) == 3
    assert await log.put_lines([line(run, 2, "again"), line(run, 3, "c")]) == 1
    assert await log.put_lines([]) == 0
    kept = await log.read_lines(run)
    assert [one.line.text for one in kept] == ["a", "b\u2400", "c"]
    assert [one.line.text for one in await log.read_lines(run, kept[0].id, 1)] == ["b\u2400"]
    assert await log.read_lines(run, kept[-1].id) == []


async def test_every_chain_of_a_log_holds_and_says_how_far(log: Log) -> None:
    tenures = await claim(log)
    for partition in (0, 5):
        for after in (0, 1):
            made = event(mint(CLOCK, "run", partition), 1)
            await log.append_events([batch(tenures[partition], made, after=after)])
    held = [found async for found in log.verify()]
    assert ("runs", 0, 2) in held
    assert ("runs", 5, 2) in held
    assert ("approvals", 0, 0) in held
    assert len(held) == sum(LOG_PARTITIONS.values())


async def test_appends_that_bring_the_same_bodies_in_different_orders_do_not_wait_for_each_other(log: Log) -> None:
    first, second, *_ = (await claim(log)).values()
    for number in range(10):
        bodies = {codec.sha256(body): body for body in (f"{number}/{place}".encode() for place in range(200))}
        one = batch(first, event(mint(CLOCK, "run", first.partition), 1), after=number)
        other = batch(second, event(mint(CLOCK, "run", second.partition), 1), after=number)
        one.blobs, other.blobs = bodies, dict(reversed(bodies.items()))
        async with asyncio.TaskGroup() as group:
            group.create_task(log.append_events([one]))
            group.create_task(log.append_events([other]))
        assert set(await log.get_blobs(list(bodies))) == set(bodies)
