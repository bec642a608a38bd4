"""Whose a body is, in a database from before that was kept: told by what the log says."""

import asyncpg

from headrace import codec
from headrace.clock import SystemClock, mint
from headrace.decider import Row
from headrace.log.migrate import migrations
from headrace.log.port import Batch, NewEvent
from headrace.log.postgres import PostgresLog

CLOCK = SystemClock()
ITEM, STEP, ODD, NOBODYS = b"an item's output", b"a step's output", b"beside a NUL", b"nobody's"


def happened(stream_id: str, version: int, workspace: str, data: bytes) -> NewEvent:
    return NewEvent(stream_id, version, "step.succeeded", 1, workspace, CLOCK.now_ms(), data, b"{}")


async def test_bodies_of_before_belong_to_the_workspaces_whose_steps_made_them(postgres_url: str) -> None:
    log = await PostgresLog.open(postgres_url, CLOCK)
    for body in (ITEM, STEP, ODD, NOBODYS):
        await log.put_blob(codec.sha256(body), body)
    await log.heartbeat("owner", {"runs": 1}, lease_s=30)
    one, two = mint(CLOCK, "run", 0), mint(CLOCK, "run", 0)
    item = codec.dumps({"step": "s", "index": 0, "blob": {"digest": codec.sha256(ITEM), "size_bytes": 3}})
    lie = codec.dumps({"step": "s", "output": {"blob": {"digest": codec.sha256(NOBODYS)}}})
    odd = b'{"step": "s", "blob": {"digest": "' + codec.sha256(ODD).encode() + b'"}, "output": "\\u0000 \\ud800"}'
    step = {"run_id": two, "step": "s", "workspace": "two", "blob": codec.sha256(STEP)}
    appended = await log.append_events(
        [
            Batch(
                log="runs",
                partition=0,
                epoch=1,
                expected_position=0,
                events=[
                    happened(one, 1, "one", item),
                    happened(one, 2, "one", lie),
                    happened(one, 3, "one", odd),
                    happened(two, 1, "two", item),
                ],
                rows=[Row("steps", step)],
            )
        ]
    )
    assert appended.stale == ()
    await log.close()
    database = await asyncpg.connect(postgres_url)
    await database.execute("drop table headrace.blob_workspaces")
    (made,) = [one for one in migrations() if one.name == "blob_workspaces"]
    await database.execute(made.sql)
    await database.close()
    log = await PostgresLog.open(postgres_url, CLOCK)
    digests = [codec.sha256(body) for body in (ITEM, STEP, ODD, NOBODYS)]
    assert await log.blobs_of("one", digests) >= {codec.sha256(ITEM)}
    assert codec.sha256(NOBODYS) not in await log.blobs_of("one", digests)
    assert await log.blobs_of("two", digests) == {codec.sha256(ITEM), codec.sha256(STEP)}
    await log.close()
