"""A month goes into an archive and comes back unchanged; what is no archive of this log does not get in."""

import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from headrace import codec, ids
from headrace.errors import ConflictError, ValidationError
from headrace.log import moving
from headrace.log.archive import Archive
from headrace.log.chain import HASH_BYTES, follow
from headrace.log.months import Away, Months
from headrace.log.postgres import PostgresLog
from headrace.log.rebuild import rebuild
from headrace.vocabulary import LOG_RUNS
from headrace.wire import Line
from tests.shared.log_months_kit import CLOCK, IN_IT, LONG_AGO, archived, breaks, done, everything, mixed
from tests.shared.log_runs_kit import write

# --- there and back ----------------------------------------------------------------------------------------------------


async def test_a_month_is_archived_and_restored_and_nothing_has_changed(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection, tmp_path: Path
) -> None:
    old, new = await mixed(log)
    before_it = await everything(database)
    await log.keep_snapshots(LOG_RUNS, "f", {sim.id: (1, b"state") for sim in (old[0], new[0])})
    file = tmp_path / "january.zip"
    await archived(postgres_url, file)

    assert [row[0] for row in await database.fetch("select stream_id from headrace.snapshots")] == [new[0].id]
    assert await breaks(log) == [], "the chain holds by its leaves alone"
    ranges = await log.archived(LOG_RUNS, 3)
    events = sum(len(sim.history) for sim in old if ids.partition_of(sim.id) == 3)
    assert sum(last - first + 1 for first, last in ranges) == events
    assert len(ranges) > 1, "runs of now stand between"
    assert await log.stream(LOG_RUNS, old[0].id) == []
    assert len(await log.stream(LOG_RUNS, new[0].id)) == len(new[0].history)
    assert {row["id"] for row in await log.rows("runs", {})} == {sim.id for sim in new}
    assert (await rebuild(log)).changed == 0
    assert await database.fetchval("select to_regclass('headrace.events_202601')") is None
    assert await database.fetchval("select count(*) from headrace.lines") == 0

    async with Months.keeping(postgres_url) as months:
        manifest = await moving.restore(months, file)
    assert (manifest.streams, manifest.events) == (len(old), sum(len(sim.history) for sim in old))
    assert (await rebuild(log, month=LONG_AGO)).rows > 0
    assert await breaks(log) == []
    assert await log.archived(LOG_RUNS, 3) == []
    assert (await rebuild(log)).changed == 0
    assert await everything(database) == before_it
    guards = await database.fetch(
        "select tgname from pg_trigger where tgrelid = 'headrace.events_202601'::regclass and not tgisinternal"
    )
    assert "append_only" in (names := {row[0] for row in guards})
    assert "closed" not in names


async def test_a_month_that_was_only_detached_is_put_back_without_a_file(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection
) -> None:
    await mixed(log)
    before_it = await everything(database)
    async with Months.keeping(postgres_url) as months:
        assert await months.detach(LONG_AGO) == []
        assert await breaks(log) == []
        await months.reattach(LONG_AGO)
        await months.reattach(LONG_AGO)  # as who follows somebody that died before the rows were made
        await rebuild(log, month=LONG_AGO)
        with pytest.raises(ConflictError, match="is in the log: there is nothing to bring back"):
            await months.reattach(LONG_AGO)
    assert await everything(database) == before_it


async def test_an_archiving_that_was_cut_off_before_the_table_was_dropped_is_done_again_over_its_file(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection, tmp_path: Path
) -> None:
    await mixed(log)
    file = tmp_path / "january.zip"
    async with Months.keeping(postgres_url) as months:
        assert await months.detach(LONG_AGO) == []
        async with database.transaction():
            await database.execute("lock table headrace.events_202601 in access share mode")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await moving.archive(months, LONG_AGO, file)
        assert file.exists(), "the file is whole, and the table still stands"
        await moving.archive(months, LONG_AGO, file)
    assert await database.fetchval("select to_regclass('headrace.events_202601')") is None
    assert not list(tmp_path.glob("*.part"))


async def test_what_archived_runs_printed_goes_also_when_who_dropped_their_table_died(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection, tmp_path: Path
) -> None:
    old, new = await mixed(log)
    await archived(postgres_url, tmp_path / "january.zip")
    left = [line(sim.id) for sim in (old[0], new[0])]
    assert await log.put_lines(left) == len(left)
    async with Months.keeping(postgres_url) as months:
        await months.forget_archived()
    assert [row["run_id"] for row in await database.fetch("select run_id from headrace.lines")] == [new[0].id]


def line(run_id: str) -> Line:
    return Line(
        run_id=run_id, attempt_id=f"att_{run_id}", step="one", sequence=9, at=5, text="said", workspace="default"
    )


async def test_a_month_that_came_back_without_its_rows_is_brought_back_again(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection, tmp_path: Path
) -> None:
    await mixed(log)
    before_it, file = await everything(database), tmp_path / "january.zip"
    await archived(postgres_url, file)
    async with Months.keeping(postgres_url) as months:
        await moving.restore(months, file)
        assert await months.stragglers(LONG_AGO) == []
        assert (await moving.restore(months, file)).month == "2026-01"
        await rebuild(log, month=LONG_AGO)
        with pytest.raises(ConflictError, match="is in the log: there is nothing to bring back"):
            await moving.restore(months, file)
    assert await everything(database) == before_it


async def test_an_archive_says_what_it_holds_and_proves_itself(
    log: PostgresLog, postgres_url: str, tmp_path: Path
) -> None:
    old, _ = await mixed(log)
    file = tmp_path / "january.zip"
    await archived(postgres_url, file)
    with Archive(file) as archive:
        archive.check()
        assert archive.manifest.month == "2026-01"
        assert archive.manifest.lines == 3
        assert {kept.stream_id for place in archive.places() for kept in archive.events(place)} == {s.id for s in old}
        assert [bound.digest for bound in archive.bound()] == [old[0].digest]
        assert codec.sha256(archive.body(old[0].digest)) == old[0].digest
    async with Months.keeping(postgres_url) as months:
        with pytest.raises(ConflictError, match=r"was archived: give its file, headrace-2026-01\.zip unless"):
            await months.reattach(LONG_AGO)
    with pytest.raises(ValidationError, match="not written over"):
        await archived_again(log, postgres_url, file)


async def test_a_month_that_was_brought_back_can_be_archived_once_more(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection, tmp_path: Path
) -> None:
    old, _ = await mixed(log)
    before_it = await everything(database)
    for name in ("first.zip", "second.zip"):
        await archived(postgres_url, tmp_path / name)
        away = await log.gone(old[0].id, "default")
        assert isinstance(away, Away)
        assert away.fate == "away"
        async with Months.keeping(postgres_url) as months:
            await moving.restore(months, tmp_path / name)
        await rebuild(log, month=LONG_AGO)
        assert await everything(database) == before_it
        assert await log.gone(old[0].id, "default") is None
    with Archive(tmp_path / "first.zip") as first, Archive(tmp_path / "second.zip") as second:
        assert first.manifest.members == second.manifest.members


async def archived_again(log: PostgresLog, url: str, file: Path) -> None:
    async with Months.keeping(url) as months:
        await moving.restore(months, file)
        await rebuild(log, month=LONG_AGO)
        assert await months.detach(LONG_AGO) == []
        await moving.archive(months, LONG_AGO, file)


# --- what is refused ---------------------------------------------------------------------------------------------------


def changed(file: Path, target: Path, change: Any) -> Path:
    """Copy an archive with one member's bytes changed, the manifest made to fit."""
    import hashlib

    with zipfile.ZipFile(file) as source, zipfile.ZipFile(target, "w") as made:
        manifest = json.loads(source.read("manifest.json"))
        for name in source.namelist():
            if name == "manifest.json":
                continue
            body = change(name, source.read(name))
            manifest["members"][name] = {"sha256": hashlib.sha256(body).hexdigest(), "size_bytes": len(body)}
            made.writestr(name, body)
        made.writestr("manifest.json", json.dumps(manifest))
    return target


async def test_an_archive_that_was_tampered_with_is_refused_and_changes_nothing(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection, tmp_path: Path
) -> None:
    await mixed(log)
    file = tmp_path / "january.zip"
    await archived(postgres_url, file)
    before_it = await everything(database)
    truncated = tmp_path / "truncated.zip"
    truncated.write_bytes(file.read_bytes()[:-100])
    forged = changed(file, tmp_path / "forged.zip", lambda _, body: body.replace(b'\\"output\\":2', b'\\"output\\":7'))
    assert zipfile.ZipFile(forged).read("events/runs-3.jsonl") != zipfile.ZipFile(file).read("events/runs-3.jsonl")
    fewer = changed(
        file,
        tmp_path / "fewer.zip",
        lambda name, body: body[: body.rindex(b"\n", 0, -1) + 1] if "runs-3" in name else body,
    )
    short = changed(
        file,
        tmp_path / "short.zip",
        lambda name, body: body[: body.rindex(b"\n", 0, -1) + 1] if name == "events/runs-3.jsonl" else body,
    )
    more = changed(
        file,
        tmp_path / "more.zip",
        lambda name, body: body + body[body.rindex(b"\n", 0, -1) + 1 :] if name == "events/runs-3.jsonl" else body,
    )
    bent = changed(
        file,
        tmp_path / "bent.zip",
        lambda name, body: body.replace(b'"hash":"', b'"hash":"00', 1) if name == "chain/runs-3.jsonl" else body,
    )
    swapped = changed(
        file, tmp_path / "swapped.zip", lambda name, body: body + b" " if name.startswith("blobs/") else body
    )
    extra = tmp_path / "extra.zip"
    extra.write_bytes(file.read_bytes())
    with zipfile.ZipFile(extra, "a") as made:
        made.writestr("another", b"")
    spoilt = changed(file, tmp_path / "spoilt.zip", lambda _, body: body)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(spoilt, "w") as made:
        for name in source.namelist():
            made.writestr(name, source.read(name) + (b"\n" if name == "lines.jsonl" else b""))
    async with Months.keeping(postgres_url) as months:
        for bad, said in (
            (truncated, "no archive"),
            (forged, "chain says"),
            (fewer, "missing|damaged"),
            (short, "is missing"),
            (more, "more of runs/3 than the manifest says"),
            (bent, "does not follow from the one before"),
            (extra, "members are not those of the manifest: another"),
            (spoilt, "lines.jsonl is not what was written"),
            (swapped, "in the archive is another's"),
        ):
            with pytest.raises(ValidationError, match=said):
                await moving.restore(months, bad)
    assert await everything(database) == before_it


@pytest.mark.parametrize(
    ("runs", "said"), [("others", "hold the positions"), ("the same", "its chain of runs/3 differs")]
)
async def test_an_archive_of_another_log_is_refused(
    log: PostgresLog, postgres_url: str, another_url: str, tmp_path: Path, runs: str, said: str
) -> None:
    await mixed(log)
    other = await PostgresLog.open(another_url, CLOCK)
    if runs == "the same":
        await mixed(other)
    else:
        await write(other, *[done(IN_IT + n, 50 + n, 3 + n % 2) for n in range(6)])
    await other.close()
    await archived(postgres_url, tmp_path / "one.zip")
    await archived(another_url, tmp_path / "other.zip")
    async with Months.keeping(postgres_url) as months:
        with pytest.raises(ConflictError, match=said):
            await moving.restore(months, tmp_path / "other.zip")
        with pytest.raises(ConflictError, match="its chain of runs/3 is longer"):
            await moving.restore(months, changed(tmp_path / "one.zip", tmp_path / "longer.zip", longer))
        await moving.restore(months, tmp_path / "one.zip")
        await rebuild(log, month=LONG_AGO)
        with pytest.raises(ConflictError, match="nothing to bring back"):
            await moving.restore(months, tmp_path / "one.zip")


def longer(name: str, body: bytes) -> bytes:
    """Add a link to a chain that follows from its last."""
    if name != "chain/runs-3.jsonl":
        return body
    last, leaves = json.loads(body.splitlines()[-1]), bytes(HASH_BYTES)
    told = {"first": last["last"] + 1, "last": last["last"] + 1, "leaves": leaves.hex()}
    told["hash"] = follow(bytes.fromhex(last["hash"]), leaves).hex()
    return body + json.dumps(told).encode() + b"\n"


@pytest.fixture
async def another_url(postgres_server: Any) -> AsyncIterator[str]:
    """Give another migrated database."""
    from tests.conftest import migrated_database

    async for url in migrated_database(postgres_server):
        yield url
