"""A rebuild over every log: nothing changes in what is right, and what is wrong is mended and named."""

import asyncpg
import pytest

from headrace import codec
from headrace.clock import mint
from headrace.decider import AnyRow, Library, MissingError, Row
from headrace.errors import DatabaseVersionError, NotFoundError
from headrace.events.approvals import ApprovalClosed, ApprovalOpened
from headrace.events.base import Actor, Event
from headrace.log import rows as projection
from headrace.log.memory import MemoryLog
from headrace.log.port import Batch, NewEvent
from headrace.log.postgres import PostgresLog
from headrace.log.rebuild import Rebuildable, rebuild
from tests.contracts.log_kit import CLOCK, LEASE_S

BODY = b'{"shown":"body"}'
DIGEST = codec.sha256(BODY)
CORRUPT = {
    "status": "update headrace.approvals set status = $1 where id = $2",
    "id": "update headrace.approvals set id = $1 where id = $2",
}


class ToyRoom:
    """Approvals, as simple as they come; folding one needs a blob."""

    log = "approvals"
    format = 1
    fingerprint = "toy"

    def __init__(self, library: Library) -> None:
        self._library = library

    def initial(self, stream_id: str, workspace: str) -> dict[str, object]:
        return {"id": stream_id, "workspace": workspace, "partition": 0, "status": "none"}

    def evolve(self, state: dict[str, object], event: Event, at: int) -> dict[str, object]:
        if isinstance(event, ApprovalOpened):
            return {**state, "status": "pending", "shown": self._library.body(event.digest), "created_at": at}
        assert isinstance(event, ApprovalClosed)
        return {**state, "status": event.status, "closed_at": at}

    def rows(self, state: dict[str, object], events: object) -> list[Row]:
        body = state.get("shown")
        shown = codec.loads(body) if isinstance(body, bytes) else None
        return [Row("approvals", {**state, "shown": shown})]


def rooms(library: Library) -> list[object]:
    return [ToyRoom(library)]


class Known:
    def body(self, digest: str) -> bytes:
        if digest != DIGEST:
            raise MissingError((digest,))
        return BODY


async def written(log: Rebuildable, digest: str = DIGEST) -> list[str]:
    """Write three approvals of partition 0 with the rows that belong to them, as an owner would."""
    holdings = await log.heartbeat("owner", {"approvals": 1}, lease_s=LEASE_S)
    epoch = next(tenure.epoch for tenure in holdings.tenures if tenure.partition == 0)
    room, events, streams = ToyRoom(Known()), [], [mint(CLOCK, "apr", 0) for _ in range(3)]
    rows: list[AnyRow] = []
    opened = ApprovalOpened(
        subject="s", plan_digest="p", digest=digest, shown=codec.NULL, requester=Actor(id="a", name="a"), reply_to="r"
    )
    for stream_id in streams:
        state = room.initial(stream_id, "default")
        for version, event in enumerate((opened, ApprovalClosed(status="approved")), 1):
            at = CLOCK.now_ms()
            kind, data = event.type_name(), codec.encode(event)
            events.append(NewEvent(stream_id, version, kind, 1, "default", at, data, b"{}"))
            if digest == DIGEST:
                state = room.evolve(state, event, at)
        rows += room.rows(state, None)
    await log.append_events(
        [Batch(log="approvals", partition=0, epoch=epoch, expected_position=0, events=events, rows=rows)]
    )
    return streams


async def corrupt(log: Rebuildable, url: str | None, stream_id: str, **columns: object) -> None:
    """Change a row behind the log's back."""
    if url is None:
        assert isinstance(log, MemoryLog)
        kept = await log.row("approvals", {"id": stream_id}) or {}
        made = Row("approvals", {**kept, **columns})
        log._rows["approvals"].pop((stream_id,), None)
        whole = projection.values(made)
        log._rows["approvals"][projection.key_of("approvals", whole)] = whole
        return
    connection = await asyncpg.connect(url)
    for name, value in columns.items():
        await connection.execute(CORRUPT[name], value, stream_id)
    await connection.close()


@pytest.fixture
def log(any_log: Rebuildable) -> Rebuildable:
    return any_log


async def test_a_rebuild_of_what_is_right_changes_nothing(log: Rebuildable) -> None:
    await log.put_blob(DIGEST, BODY)
    await written(log)
    report = await rebuild(log, rooms)  # type: ignore[arg-type]  # a room of three methods is enough here
    assert (report.streams, report.rows, report.changed, report.examples) == (3, 3, 0, [])


async def test_a_corrupted_row_is_named_and_mended(log: Rebuildable, any_log_url: str | None) -> None:
    await log.put_blob(DIGEST, BODY)
    streams = await written(log)
    before = await log.row("approvals", {"id": streams[1]})
    await corrupt(log, any_log_url, streams[1], status="rejected")
    await corrupt(log, any_log_url, streams[2], id="apr_invented")
    report = await rebuild(log, rooms)  # type: ignore[arg-type]  # likewise
    assert report.changed == 3
    assert set(report.examples) == {
        f"approvals {streams[1]}: status was 'rejected', is 'approved'",
        f"approvals {streams[2]}: was missing",
        "approvals apr_invented: no event accounts for this row",
    }
    assert await log.row("approvals", {"id": streams[1]}) == before
    assert await log.row("approvals", {"id": "apr_invented"}) is None
    assert (await rebuild(log, rooms)).changed == 0  # type: ignore[arg-type]  # likewise


async def test_an_owner_that_held_the_partition_can_commit_nothing_after_a_rebuild_until_it_claims_again(
    log: Rebuildable,
) -> None:
    await log.put_blob(DIGEST, BODY)
    await written(log)
    await rebuild(log, rooms)  # type: ignore[arg-type]  # likewise
    stale = Batch(log="approvals", partition=0, epoch=1, expected_position=6)
    assert (await log.append_events([stale])).stale == (("approvals", 0),)
    holdings = await log.heartbeat("owner", {"approvals": 1}, lease_s=LEASE_S)
    tenure = next(tenure for tenure in holdings.tenures if tenure.partition == 0)
    assert tenure.epoch > 1
    assert tenure.last_position == 6


async def test_what_a_rebuild_holds_nobody_claims_meanwhile(log: Rebuildable) -> None:
    first = await log.seize("rebuild", "approvals", 1, 1, lease_s=LEASE_S)
    holdings = await log.heartbeat("owner", {"approvals": 1}, lease_s=LEASE_S)
    assert 1 not in {tenure.partition for tenure in holdings.tenures}
    assert await log.seize("rebuild", "approvals", 1, 1, lease_s=LEASE_S) == first, "it keeps it by asking again"
    await log.release("rebuild", [("approvals", 1)])
    holdings = await log.heartbeat("owner", {"approvals": 1}, lease_s=LEASE_S)
    assert 1 in {tenure.partition for tenure in holdings.tenures}


async def test_a_rebuild_names_a_blob_that_is_gone_and_refuses_newer_formats(log: Rebuildable) -> None:
    gone = codec.sha256(b"gone")
    await written(log, gone)
    with pytest.raises(NotFoundError, match=gone):
        await rebuild(log, rooms)  # type: ignore[arg-type]  # likewise
    await log.release("rebuild", [("approvals", 0)])
    await log.heartbeat("newer", {"approvals": 7}, lease_s=LEASE_S)
    with pytest.raises(DatabaseVersionError, match="newer"):
        await rebuild(log, rooms)  # type: ignore[arg-type]  # likewise


def test_both_logs_can_be_rebuilt() -> None:
    for kind in (MemoryLog, PostgresLog):
        assert {"seize", "streams", "row_streams", "standing", "drop_rows"} <= set(dir(kind))
