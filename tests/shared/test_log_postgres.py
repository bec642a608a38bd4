"""What only a database can show: migrations, copies, refusals of its own, bytes changed behind its back."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from headrace import codec, ids
from headrace.clock import SystemClock, mint
from headrace.dev.embedded import EmbeddedPostgres
from headrace.errors import DatabaseVersionError, UnavailableError, ValidationError
from headrace.log.adopt import adopt
from headrace.log.connections import STATEMENT_S, Connections
from headrace.log.migrate import check, migrate, migrations
from headrace.log.port import Batch, Break, KeptAnswer, NewEvent
from headrace.log.postgres import FORGET_ROWS_MAX, PostgresLog
from headrace.log.queries import QUERIES
from headrace.log.tables import TABLES
from headrace.vocabulary import LOG_PARTITIONS
from tests.shared.log_runs_kit import run_at, write

CLOCK = SystemClock()
SQL_KINDS = {"text": "text", "integer": "int", "bigint": "bigint", "boolean": "bool", "json": "json"}
MONTHS = """
select 'headrace.' || relname from pg_inherits join pg_class on pg_class.oid = inhrelid
  where inhparent = 'headrace.events'::regclass
"""
ANSWERS = """
insert into headrace.answers
  select 'runs', n % 8, 'key ' || n / 8, 'd', 's', '{}', headrace.now_ms() from generate_series(0, $1::int - 1) n
"""
FLIP = "update headrace.events set data = set_byte(data, 2, get_byte(data, 2) # 1) where log = 'runs' and position = $1"


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give every node of a plan as the database explains it."""
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def batch(stream_id: str, *, after: int = 0, events: int = 1, data: bytes = b'{"a":"b"}') -> Batch:
    now = CLOCK.now_ms()
    made = [NewEvent(stream_id, after + n, "run.queued", 1, "default", now, data, b"{}") for n in range(1, events + 1)]
    return Batch(log="runs", partition=0, epoch=1, expected_position=after, events=made)


async def filled(log: PostgresLog, appends: int = 3) -> str:
    """Claim everything and write `appends` times two events to one stream of partition 0."""
    await log.heartbeat("owner", {"runs": 1}, lease_s=30)
    stream_id = mint(CLOCK, "run", 0)
    for at in range(appends):
        await log.append_events([batch(stream_id, after=at * 2, events=2)])
    return stream_id


# --- schema ------------------------------------------------------------------------------------------------------


async def test_migrations_run_once_also_when_several_start_them_together(empty_postgres_url: str) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(migrate(empty_postgres_url)) for _ in range(3)]
    assert sorted(len(task.result()) for task in tasks) == [0, 0, len(migrations())]
    assert await check(empty_postgres_url)
    assert await migrate(empty_postgres_url) == []


async def test_a_database_without_schema_or_with_an_older_one_is_refused_with_the_remedy(
    empty_postgres_url: str,
) -> None:
    with pytest.raises(DatabaseVersionError, match="headrace db migrate"):
        await PostgresLog.open(empty_postgres_url, CLOCK)
    await migrate(empty_postgres_url)
    connection = await asyncpg.connect(empty_postgres_url)
    await connection.execute("delete from headrace.migrations where version > 1")
    await connection.close()
    with pytest.raises(DatabaseVersionError, match=r"at version 1.*needs version"):
        await check(empty_postgres_url)


async def test_a_newer_database_that_works_with_this_code_is_used_and_left_as_it_is(
    postgres_url: str, database: asyncpg.Connection
) -> None:
    await database.execute("insert into headrace.migrations (version, name, checksum) values (99, 'later', 'x')")
    assert await migrate(postgres_url) == []
    assert await check(postgres_url)
    log = await PostgresLog.open(postgres_url, CLOCK)
    await log.close()
    await database.execute("update headrace.migrations set checksum = 'other' where version = 2")
    with pytest.raises(DatabaseVersionError, match="0002 projections"):
        await check(postgres_url)


async def test_a_database_too_new_for_the_code_is_refused_naming_the_versions(
    postgres_url: str, database: asyncpg.Connection
) -> None:
    await database.execute("insert into headrace.migrations (version, name, checksum) values (99, 'later', 'x')")
    await database.execute("update headrace.meta set works_with = $1", len(migrations()) + 1)
    for refused in (migrate(postgres_url), check(postgres_url), PostgresLog.open(postgres_url, CLOCK)):
        with pytest.raises(
            DatabaseVersionError,
            match=rf"version 99.*version {len(migrations()) + 1} or later.*up to {len(migrations())}",
        ):
            await refused


async def test_a_migration_changed_after_it_was_applied_is_refused(
    postgres_url: str, database: asyncpg.Connection
) -> None:
    await database.execute("update headrace.migrations set checksum = 'other' where version = 2")
    with pytest.raises(DatabaseVersionError, match="0002 projections"):
        await migrate(postgres_url)


async def test_the_tables_are_those_of_the_code_column_by_column(database: asyncpg.Connection) -> None:
    for name, table in TABLES.items():
        rows = await database.fetch(
            "select column_name, data_type from information_schema.columns"
            " where table_schema = 'headrace' and table_name = $1 order by ordinal_position",
            name,
        )
        assert [(row[0], SQL_KINDS[row[1]]) for row in rows] == list(table.columns.items()), name
        key = await database.fetch(
            "select a.attname from pg_index i, unnest(i.indkey) with ordinality k(attnum, n)"
            " join pg_attribute a on a.attnum = k.attnum"
            " where i.indrelid = $1::text::regclass and i.indisprimary and a.attrelid = i.indrelid order by k.n",
            f"headrace.{name}",
        )
        assert tuple(row[0] for row in key) == table.key, name


async def test_a_new_database_has_the_logs_of_the_vocabulary(database: asyncpg.Connection) -> None:
    assert dict(await database.fetch("select name, partitions from headrace.logs")) == LOG_PARTITIONS


async def test_a_database_of_before_a_log_gains_its_partitions_and_keeps_its_own_numbers(
    empty_postgres_url: str,
) -> None:
    before = {name: count for name, count in LOG_PARTITIONS.items() if name != "flow"} | {"runs": 3}
    await migrate(empty_postgres_url, partitions=before)
    await migrate(empty_postgres_url)
    log = await PostgresLog.open(empty_postgres_url, CLOCK)
    try:
        counts = Counter(row["log"] for row in await log.partitions())
    finally:
        await log.close()
    assert counts == {**LOG_PARTITIONS, "runs": 3}


async def test_a_restored_copy_is_refused_until_it_is_adopted(
    postgres_url: str, postgres_server: EmbeddedPostgres
) -> None:
    original = await PostgresLog.open(postgres_url, CLOCK)
    sim = run_at(CLOCK.now_ms() - 1_000, 0, 1).create().report("one", 1)
    await write(original, sim)
    await original.close()
    admin = await asyncpg.connect(postgres_server.url_of("postgres"))
    name = postgres_url.rpartition("/")[2]
    await admin.execute(f"create database {name}_copy template {name}")
    await admin.close()
    copy = f"{postgres_url}_copy"
    with pytest.raises(DatabaseVersionError, match="headrace db adopt"):
        await PostgresLog.open(copy, CLOCK)
    adopted = (await adopt(copy, CLOCK)).incarnation
    assert adopted != original.incarnation
    log = await PostgresLog.open(copy, CLOCK)
    assert log.incarnation == adopted
    stale = Batch(log="runs", partition=0, epoch=1, expected_position=len(sim.history))
    assert (await log.append_events([stale])).stale == (("runs", 0),), "owners of the original can do nothing here"
    log.incarnation = original.incarnation
    with pytest.raises(DatabaseVersionError):
        await log.append_events([stale])
    with pytest.raises(DatabaseVersionError, match="adopted"):
        await log.heartbeat("owner", {"runs": 1}, lease_s=30)
    await log.close()


# --- append-only -------------------------------------------------------------------------------------------------


async def test_row_84_every_part_of_the_log_refuses_update_delete_and_truncate_of_a_superuser(
    log: PostgresLog, database: asyncpg.Connection
) -> None:
    await filled(log)
    assert (await database.fetchval("select rolsuper from pg_roles where rolname = current_user")) is True
    children = await database.fetch(MONTHS)
    tables = [row[0] for row in children]
    assert len(tables) >= 4
    for table in [*tables, "headrace.events", "headrace.chain"]:
        for statement in (f"update {table} set log = 'x'", f"delete from {table}", f"truncate {table}"):  # noqa: S608  (names from the catalogue)
            for role in ("origin", "replica"):
                await database.execute(f"set session_replication_role = {role}")
                with pytest.raises(asyncpg.PostgresError, match="append-only") as refused:
                    await database.execute(statement)
                assert refused.value.sqlstate == "HR001"
    assert len(await log.read("runs", 0, 0, 10)) == 6


async def test_a_flipped_byte_is_found_and_located(log: PostgresLog, database: asyncpg.Connection) -> None:
    await filled(log)
    await database.execute("alter table headrace.events disable trigger all")
    for child in await database.fetch(MONTHS):
        await database.execute(f"alter table {child[0]} disable trigger all")
    await database.execute(FLIP, 4)
    assert (await broken(log)) == ("runs", 0, 4)
    await database.execute(FLIP, 4)
    assert (await broken(log)) is None
    await database.execute("delete from headrace.events where log = 'runs' and position = 3")
    found = [one async for one in log.verify() if isinstance(one, Break)]
    assert [(one.log, one.partition, one.position) for one in found] == [("runs", 0, 3)]
    assert "missing" in found[0].reason


async def test_a_forged_chain_is_found(log: PostgresLog, database: asyncpg.Connection) -> None:
    await filled(log)
    await database.execute("alter table headrace.chain disable trigger all")
    await database.execute("update headrace.chain set hash = sha256(hash) where first_position = 3")
    assert (await broken(log)) == ("runs", 0, 3)
    await database.execute("delete from headrace.chain where first_position = 3")
    assert (await broken(log)) == ("runs", 0, 3)


async def broken(log: PostgresLog) -> tuple[str, int, int] | None:
    found = [one async for one in log.verify() if isinstance(one, Break)]
    return (found[0].log, found[0].partition, found[0].position) if found else None


async def test_people_read_events_as_jsonb_also_where_jsonb_refuses(
    log: PostgresLog, database: asyncpg.Connection
) -> None:
    await log.heartbeat("owner", {"runs": 1}, lease_s=30)
    bodies = [b'{"a":1}', b'{"a":"\\u0000"}', b'{"a":"\\ud800"}', b'{"a":1e999999}']
    stream_id = mint(CLOCK, "run", 0)
    for at, data in enumerate(bodies):
        await log.append_events([batch(stream_id, after=at, data=data)])
    shown = [row["data"] for row in await database.fetch("select data from headrace.events_readable order by position")]
    assert [codec.loads(text) for text in shown[:2]] == [{"a": 1}, {"a": "\u2400"}]
    assert all(shown)


# --- calls -------------------------------------------------------------------------------------------------------


class Heard(Connections):
    """Connections that remember what was asked of them, each a round trip."""

    statements: tuple[str, ...] = ()

    async def fetch(self, sql: str, *values: Any, timeout_s: float = STATEMENT_S) -> list[asyncpg.Record]:
        self.statements += (sql,)
        return await super().fetch(sql, *values, timeout_s=timeout_s)


async def test_an_append_is_one_statement_in_one_round_trip(log: PostgresLog, postgres_url: str) -> None:
    stream_id = await filled(log)
    lone, many = batch(stream_id, after=6), batch(stream_id, after=7, events=5)
    full = batch(stream_id, after=12, events=5)
    full.answers = [KeptAnswer("k", "d", stream_id, b"{}")]
    full.blobs = {codec.sha256(b"b"): b"b"}
    before, heard = log._owner, Heard(postgres_url, 1)
    log._owner = heard
    await before.close()
    for one in (lone, many, full):
        assert not (await log.append_events([one])).stale
    assert heard.statements == tuple(QUERIES[name] for name in ("append_lone", "append", "append_all"))


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_answers_of_all_partitions_are_found_by_the_index_of_their_key(
    database: asyncpg.Connection, mode: str
) -> None:
    await database.execute(ANSWERS, 20_000)
    await database.execute(f"set plan_cache_mode = {mode}")
    asked = [(partition, f"key {number}") for partition in range(8) for number in range(0, 1_000, 10)]
    columns: list[list[Any]] = [["runs"] * len(asked), [partition for partition, _ in asked], [key for _, key in asked]]
    arrays = ", ".join("'{" + ",".join(map(str, column)) + "}'" for column in columns)
    await database.execute("prepare asked as " + QUERIES["answers"])
    for analysed in (False, True):
        if analysed:
            await database.execute("analyze headrace.answers")
        (explained,) = await database.fetchrow(f"explain (verbose, format json) execute asked({arrays}, 60000)")
        assert ("$1" in explained) == (mode == "force_generic_plan")
        (scan,) = [node for node in nodes(json.loads(explained)[0]["Plan"]) if node.get("Relation Name") == "answers"]
        assert scan["Node Type"] == "Index Scan"
        assert scan["Index Name"] == "answers_pkey"
        assert all(column in scan["Index Cond"] for column in ("log", "partition", "key"))
    assert len(await database.fetch(QUERIES["answers"], *columns, 60_000)) == len(asked)


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize("statement", ["histories", "stream", "purged"])
async def test_an_owner_finds_a_stream_by_its_index_also_by_a_plan_of_when_the_month_was_empty(
    log: PostgresLog, database: asyncpg.Connection, statement: str, *, analysed: bool
) -> None:
    await log.heartbeat("owner", {"runs": 1}, lease_s=30)
    streams = [mint(CLOCK, "run", 0) for _ in range(1_000)]
    month = ids.month_of(streams[0])
    await log.append_events([batch(streams[0])])
    if analysed:
        await database.execute("analyze headrace.events")
    given = {
        "histories": f"'runs', 'code', '{{{','.join([str(month)] * 20)}}}', '{{{','.join(streams[:20])}}}'",
        "stream": f"{month}, '{streams[0]}', 0, 'runs', 100",
        "purged": f"{month}, '{streams[0]}', 'runs', 'run.purged'",
    }
    own = log._owner._free[0].connection
    await own.execute("set plan_cache_mode = force_generic_plan")
    await own.execute("prepare asked as " + QUERIES[statement])
    for _ in range(2):
        (explained,) = await own.fetchrow(f"explain (verbose, format json) execute asked({given[statement]})")
        plan = list(nodes(json.loads(explained)[0]["Plan"]))
        scans = [node for node in plan if node.get("Relation Name") == f"events_{month}"]
        assert scans
        assert all("stream_id" in node.get("Index Cond", "") for node in scans), explained
        made = [event for stream_id in streams[1:] for event in batch(stream_id).events]
        await log.append_events([Batch(log="runs", partition=0, epoch=1, expected_position=1, events=made)])


async def test_answers_are_forgotten_after_seven_days(log: PostgresLog, database: asyncpg.Connection) -> None:
    stream_id = await filled(log)
    made = batch(stream_id, after=6)
    made.answers = [KeptAnswer(key, "d", stream_id, b"{}") for key in ("old", "new")]
    await log.append_events([made])
    await database.execute("update headrace.answers set at = at - 8 * 86400000 where key = 'old'")
    assert list(await log.answers([("runs", 0, "old"), ("runs", 0, "new")])) == [("runs", 0, "new")]
    await log.keep_house()
    assert [row[0] for row in await database.fetch("select key from headrace.answers")] == ["new"]


async def test_however_many_answers_expired_none_of_them_stays(log: PostgresLog, database: asyncpg.Connection) -> None:
    await database.execute(
        "insert into headrace.answers select 'runs', 0, 'old ' || n, 'd', 'run', '', $1 from generate_series(0, $2) n",
        CLOCK.now_ms() - 8 * 86_400_000,
        2 * FORGET_ROWS_MAX,
    )
    await log.keep_house()
    assert await database.fetchval("select count(*) from headrace.answers") == 0


async def test_the_months_ahead_are_attached(database: asyncpg.Connection) -> None:
    names = {row[0] for row in await database.fetch(MONTHS)}
    ahead = await database.fetchval("select to_char(now() at time zone 'utc' + interval '2 months', 'YYYYMM')")
    assert {f"headrace.events_{ahead}", "headrace.events_197001"} <= names


async def test_a_database_that_dies_and_comes_back_is_an_outage_and_nothing_more(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with EmbeddedPostgres(tmp_path_factory.mktemp("dying")) as server:
        await migrate(server.url)
        log = await PostgresLog.open(server.url, CLOCK)
        await filled(log)
        await asyncio.to_thread(server.kill)
        for call in (log.read("runs", 0, 0, 1), log.append_events([]), log.heartbeat("owner", {"runs": 1}, lease_s=1)):
            with pytest.raises(UnavailableError):
                await call
        await asyncio.to_thread(server.start)
        assert len(await log.read("runs", 0, 0, 10)) == 6, "what was acknowledged survived the crash"
        assert (await log.heartbeat("owner", {"runs": 1}, lease_s=30)).tenures
        await log.close()


async def test_a_url_that_leads_nowhere_is_named_without_a_traceback_of_the_driver() -> None:
    with pytest.raises(UnavailableError, match="Postgres"):
        await PostgresLog.open("postgresql://nobody@127.0.0.1:1/none", CLOCK)
    with pytest.raises((ValidationError, UnavailableError)):
        await PostgresLog.open("mysql://somewhere", CLOCK)
