"""What one partition appends with a single step goes by a function of its own, which leaves what the other would."""

from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from headrace.clock import SystemClock, mint
from headrace.decider import AnyRow, Laid
from headrace.ids import make
from headrace.log.checks import FUTURE_MS_MAX
from headrace.log.port import Batch, KeptAnswer, NewEvent
from headrace.log.postgres import PostgresLog
from headrace.log.queries import QUERIES
from headrace.log.tables import TABLES
from headrace.log.wire import Arguments, append_arguments, many_arguments

CLOCK = SystemClock()
RUN = mint(CLOCK, "run", 0)
LEFT = {
    "partitions": "select log, partition, epoch, last_position, hash from headrace.partitions order by 1, 2",
    "events": "select * from headrace.events order by log, partition, position",
    "chain": "select * from headrace.chain order by 1, 2, 3",
    "answers": "select log, partition, key, request_digest, stream_id, answer from headrace.answers order by 1, 2, 3",
    "runs": "select to_jsonb(r) from headrace.runs r order by id",
    "steps": "select to_jsonb(s) from headrace.steps s order by run_id, step",
}


def laid(table: str, *, stands: bool = False, **columns: Any) -> Laid:
    kinds = TABLES[table].columns
    return Laid(table, tuple(columns.get(name) for name in kinds), kinds, stands=stands)


def run(version: int) -> Laid:
    detail = f'{{"text":"\\u00fc \\" {version}"}}'
    return laid("runs", stands=version > 2, id=RUN, workspace="ü", version=version, status="running", detail=detail)


def step(name: str, status: str) -> Laid:
    return laid("steps", run_id=RUN, step=name, workspace="ü", ordinal=1, status=status, output='["ü"]', detail="{}")


def appended(after: int, *versions: int, rows: tuple[AnyRow, ...] = (), key: str = "") -> Batch:
    """Give a batch of the run's events of these versions."""
    made = Batch(log="runs", partition=0, epoch=1, expected_position=after, rows=list(rows))
    made.events = [
        NewEvent(
            RUN, version, "run.queued", 1, "ü", CLOCK.now_ms(), f'{{"n":{version}}}'.encode(), b'{"by":"\xc3\xbc"}'
        )
        for version in versions
    ]
    made.answers = [KeptAnswer(key, "sha256:1", RUN, b"{}")] if key else []
    return made


WAY = (
    appended(0, 1, 2, rows=(run(2), step("a", "queued")), key="k"),
    appended(2, 3, rows=(run(3), step("a", "succeeded"), step("b", "queued"))),
    appended(3, 4, 5, rows=(run(4), run(5), step("b", "succeeded"))),
    appended(5, 6),
    appended(6, rows=(run(6), step("b", "failed"))),
    appended(6),
)
"""A run's begin, a step's end, the run's end; an event alone, rows alone, and nothing but the question."""


def with_event(place: int, **changes: Any) -> Callable[[Batch], Batch]:
    def change(made: Batch) -> Batch:
        made.events[place] = replace(made.events[place], **changes)
        return made

    return change


def with_key(key: str, **changes: Any) -> Callable[[Batch], Batch]:
    return lambda made: replace(made, answers=[replace(made.answers[0], key=key)], **changes)


def with_home(made: Batch) -> Batch:
    """Move the events of a batch to a run of partition 1."""
    stream_id = mint(CLOCK, "run", 1)
    return replace(made, events=[replace(event, stream_id=stream_id) for event in made.events])


WRONG: dict[str, Callable[[Batch], Batch]] = {
    "an epoch that is over": lambda made: replace(made, epoch=0),
    "a position that is not the last": lambda made: replace(made, expected_position=1),
    "a partition that is not there": lambda made: replace(made, log="nowhere"),
    "a key that is kept": with_key("k"),
    "a kept key, and an epoch that is over": with_key("k", epoch=0),
    "a first version below one": with_event(0, version=0),
    "a version that skips one": with_event(0, version=6),
    "a second version that skips one": with_event(1, version=7),
    "a second version that is the first": with_event(1, version=1),
    "a second version of a stream that is not there": with_event(1, stream_id=mint(CLOCK, "run", 0)),
    "a time ahead": with_event(1, at=CLOCK.now_ms() + 60 * FUTURE_MS_MAX),
    "data that is no JSON": with_event(1, data=b"{"),
    "a month without a table": with_event(1, stream_id=make("run", 1_000_000_000_000, b"0123456789", 0), version=1),
}


async def outcome(database: asyncpg.Connection, arguments: Arguments, *, keep: bool) -> tuple[Any, dict[str, Any]]:
    """Append, and give what is answered (or refused with), and what all tables hold; undone unless it is to be kept."""
    transaction = database.transaction()
    await transaction.start()
    nested = database.transaction()
    await nested.start()
    try:
        answer = await database.fetchval(QUERIES[arguments.query], *arguments.values)
        await nested.commit()
    except asyncpg.PostgresError as problem:
        answer = problem.sqlstate
        await nested.rollback()
    left = {name: [tuple(row) for row in await database.fetch(sql)] for name, sql in LEFT.items()}
    await (transaction.commit() if keep else transaction.rollback())
    return answer if isinstance(answer, list | str) else [answer], left


async def begun(url: str) -> str:
    log = await PostgresLog.open(url, CLOCK)
    await log.heartbeat("owner", {"runs": 1}, lease_s=30)
    await log.close()
    return log.incarnation


async def test_both_functions_leave_the_same(postgres_url: str, database: asyncpg.Connection) -> None:
    incarnation = await begun(postgres_url)
    for one in WAY:
        lone = append_arguments(incarnation, [one])
        assert lone.query == "append_lone"
        expected = await outcome(database, many_arguments(incarnation, [one]), keep=False)
        assert await outcome(database, lone, keep=True) == expected
        assert expected[0] == [True]


@pytest.mark.parametrize("before", [0, 2], ids=["at the log's beginning", "behind something"])
async def test_both_functions_refuse_the_same(postgres_url: str, database: asyncpg.Connection, before: int) -> None:
    incarnation = await begun(postgres_url)
    beside = [replace(with_home(appended(0, 1, 2, 3)), partition=1)]
    assert (await outcome(database, append_arguments(incarnation, beside), keep=True))[0] == [True]
    for kept in (appended(0, key="k"), *(appended(version - 1, version) for version in range(1, before + 1))):
        assert (await outcome(database, append_arguments(incarnation, [kept]), keep=True))[0] == [True]
    for name, wrong in WRONG.items():
        made = wrong(appended(before, before + 1, before + 2, rows=(run(3),), key="new"))
        expected = await outcome(database, many_arguments(incarnation, [made]), keep=False)
        assert await outcome(database, append_arguments(incarnation, [made]), keep=False) == expected, name
        assert expected[0] != [True], name
    for arguments in (append_arguments, many_arguments):
        for made in (appended(before), appended(before, before + 1), appended(0, 1)):
            assert (await outcome(database, arguments("another", [made]), keep=False))[0] == "HR002"


@pytest.mark.parametrize("place", [0, 1])
async def test_both_functions_hold_positions_to_what_was_expected(
    postgres_url: str, database: asyncpg.Connection, place: int
) -> None:
    incarnation, made = await begun(postgres_url), appended(0, 1, 2)
    lone, many = append_arguments(incarnation, [made]), many_arguments(incarnation, [made])
    both = many_arguments(incarnation, [made, replace(with_home(appended(0, 1)), partition=1)])
    for events, at in ((lone.values, 5 + place), (many.values[5], place), (both.values[5], place)):
        number, position, *others = events[at]
        events[at] = (number, position + 2, *others)
    for arguments in (lone, many, both):
        assert (await outcome(database, arguments, keep=False))[0] == "HR004"


async def test_what_is_more_than_a_steps_worth_goes_the_general_way() -> None:
    for more in (
        appended(0, 1, 2, 3),
        appended(0, 1, rows=tuple(step(name, "queued") for name in "abc")),
        appended(0, 1, rows=(laid("waits", id="w", run_id=RUN),)),
        appended(0, 1, rows=(run(1), laid("runs", id=mint(CLOCK, "run", 0)))),
    ):
        assert append_arguments("x", [more]).query != "append_lone"
    assert append_arguments("x", [appended(0, 1), appended(0, 1)]).query == "append"
