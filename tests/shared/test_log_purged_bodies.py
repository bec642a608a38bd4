"""The bodies of purged runs are collected before their month leaves, as far as nothing else names them."""

import asyncio
import json
import os
import sys

import asyncpg

from headrace import codec
from headrace.events.base import Actor, BlobRef
from headrace.events.steering import RunPurged
from headrace.log.months import COLLECTED_AFTER_S, Months
from headrace.log.postgres import PostgresLog
from headrace.log.rebuild import rebuild
from tests.planner.runs_kit import Sim
from tests.shared.log_months_kit import CLOCK, IN_IT, LONG_AGO
from tests.shared.log_runs_kit import run_at, write

ADMIN = Actor(id="tok_admin", name="Root", roles=("admin",))
AGE = "update headrace.blobs set at = at - $1 where digest = any($2)"


async def with_body(log: PostgresLog, at: int, number: int, body: bytes, *, purged: bool) -> Sim:
    """Write a run whose first step gave a large output."""
    digest = codec.sha256(body)
    await log.put_blob(digest, body, "default")
    sim = run_at(at, 3, number).create()
    sim.report("one", blob=BlobRef(digest=digest, size_bytes=len(body), preview="")).report("two", number)
    if purged:
        event = RunPurged(by=ADMIN)
        sim.run = sim.room.evolve(sim.run, event, sim.now)
        sim.history.append((event, sim.now))
    await write(log, sim)
    return sim


async def test_only_what_purged_runs_alone_name_and_nobody_put_lately_is_collected(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection
) -> None:
    alone, shared, elsewhere, lately = (name.encode() * 50_000 for name in ("a", "b", "c", "d"))
    now = CLOCK.now_ms() - 60_000
    first = await with_body(log, now, 1, alone, purged=True)
    for number, body in enumerate((shared, elsewhere, lately), 2):
        await with_body(log, now, number, body, purged=True)
    await with_body(log, now, 5, shared, purged=False)
    await with_body(log, IN_IT, 6, elsewhere, purged=False)
    stray = b"e" * 50_000
    await log.put_blob(codec.sha256(stray), stray, "default")
    digests = [codec.sha256(body) for body in (alone, shared, elsewhere, stray, lately)]
    assert set(await log.get_blobs(digests)) == set(digests)
    async with Months.keeping(postgres_url) as months:
        assert await months.detach(LONG_AGO) == []
        assert await months.collect_purged() == (0, 0), "all were put just now"
        await database.execute(AGE, COLLECTED_AFTER_S * 1_000 + 1, [*digests[:4], first.digest])
        assert await months.collect_purged() == (1, len(alone))
        assert await months.collect_purged() == (0, 0)
    assert set(await log.get_blobs(digests)) == set(digests[1:])
    assert await log.blobs_of("default", digests) == set(digests[1:])
    assert list(await log.get_blobs([first.digest])) == [first.digest], "its plan, by which its events are read"
    assert (await rebuild(log)).changed == 0


async def test_what_a_collection_that_died_suspected_is_looked_at_anew(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection
) -> None:
    wanted, purged = b"w" * 50_000, b"p" * 50_000
    now = CLOCK.now_ms() - 60_000
    await with_body(log, now, 1, wanted, purged=False)
    await with_body(log, now, 2, purged, purged=True)
    digests = [codec.sha256(wanted), codec.sha256(purged)]
    await database.execute(AGE, 366 * COLLECTED_AFTER_S * 1_000, digests)
    async with Months.keeping(postgres_url) as months:
        for collect, gone in ((months.collect, 0), (months.collect_purged, 1)):
            await database.execute("insert into headrace.blob_suspects values ($1) on conflict do nothing", digests[0])
            assert (await collect())[0] == gone
    assert list(await log.get_blobs(digests)) == digests[:1]


async def test_the_command_says_what_it_collected(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection
) -> None:
    body = b"x" * 70_000
    await with_body(log, CLOCK.now_ms() - 60_000, 1, body, purged=True)
    await database.execute(AGE, COLLECTED_AFTER_S * 1_000 + 1, [codec.sha256(body)])
    said = [await command(postgres_url, *options) for options in (("-o", "json"), (), ("-o", "json"))]
    assert json.loads(said[0]) == {"bodies": 1, "bytes": len(body)}
    assert said[1] == "nothing to collect\n"
    assert json.loads(said[2]) == {"bodies": 0, "bytes": 0}


async def command(url: str, *options: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace.cli.main", "db", "collect", *options,
        env={**os.environ, "HEADRACE_DATABASE_URL": url}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()
