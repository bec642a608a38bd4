"""Make a restored copy a database of its own.

A copy knows what its original had permitted up to the copying, and nothing of what happened since. So, while services
are still refused: its chain is verified, its rows are made again, and every permission to act that was open is given up
as lost by the very room that gave it (what became of such a write is unknown, and the run says so). Only then the copy
gets an incarnation of its own, every epoch is raised and every lease ended. Whoever dies half way runs it again.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import asyncpg
import msgspec

from headrace import codec
from headrace.clock import Clock
from headrace.decider import Context, Rejection
from headrace.errors import ConflictError, NotFoundError, StaleOwnerError
from headrace.events.base import SYSTEM, Event
from headrace.log.connections import translated
from headrace.log.folding import NO_FINGERPRINT, AnyRoom, Folder, MakeRooms, installed_rooms
from headrace.log.migrate import CONNECT_S, MIGRATE_S, compatible
from headrace.log.port import Batch, Break, NewEvent, Tenure
from headrace.log.postgres import PostgresLog
from headrace.log.queries import QUERIES
from headrace.log.rebuild import Report, rebuild
from headrace.messages import Advance
from headrace.vocabulary import BATCH_EVENTS_MAX

ADOPTER: Final = "adopt"
LEASE_S: Final = 60.0
NO_COPY: Final = "this database is no copy of another: it still is {home}. Nothing was changed"
ADVANCE: Final = Advance()


class Adoption(msgspec.Struct):
    """What an adoption did. `given_up` names the streams with how many permissions to act were open in each."""

    incarnation: str = ""
    was: str = ""
    positions: int = 0
    rebuilt: Report = msgspec.field(default_factory=Report)
    given_up: dict[str, int] = {}


async def adopt(url: str, clock: Clock, rooms: MakeRooms = installed_rooms, *, force: bool = False) -> Adoption:
    """Take the database over. Again, when it stopped half way: goes on.

    Raises ConflictError when it is no copy (`force` adopts it all the same: a copy of a stopped server's files cannot
    be told from its original) or its chain does not hold, NotFoundError when a log's room is not installed,
    DatabaseVersionError, UnavailableError.
    """
    with translated():
        connection = await asyncpg.connect(url, timeout=CONNECT_S, command_timeout=MIGRATE_S)
        try:
            await compatible(connection)
            await connection.execute(QUERIES["keep_alone"])  # until this connection ends
            meta = await connection.fetchrow(QUERIES["meta"])
            if meta["home"] == meta["here"] and not force:
                raise ConflictError(NO_COPY.format(home=meta["home"]))
            done = Adoption(was=str(meta["incarnation"]))
            log = await PostgresLog.unchecked(url, clock, done.was)
            try:
                await _prepare(log, rooms, int(await connection.fetchval(QUERIES["now"])), done)
            finally:
                await log.close()
            done.incarnation = str(await connection.fetchval(QUERIES["adopt"]))
        finally:
            await connection.close()
    return done


async def _prepare(log: PostgresLog, rooms: MakeRooms, now: int, done: Adoption) -> None:
    async for each in log.verify():
        if isinstance(each, Break):
            message = f"the chain of {each.log}/{each.partition} breaks at position {each.position}: {each.reason}"
            raise ConflictError(message)
        done.positions += each[2]
    folder = Folder(log)
    known = {room.log: room for room in rooms(folder)}
    partitions = await log.partitions()
    absent = sorted({str(row["log"]) for row in partitions if row["last_position"]} - known.keys())
    if absent:
        message = (
            f"no installed service owns the logs {', '.join(absent)}; install it, since it knows what was permitted"
        )
        raise NotFoundError(message)
    done.rebuilt = await rebuild(log, rooms)
    # Also where nothing stands yet: an owner's append may be under way there, which to seize a partition waits for.
    for name, partition in sorted((str(row["log"]), int(row["partition"])) for row in partitions):
        if name in known:
            await _give_up(log, known[name], partition, folder, now, done)


async def _give_up(log: PostgresLog, room: AnyRoom, partition: int, folder: Folder, now: int, done: Adoption) -> None:
    """Let a room give up what it had permitted in one partition, one append a stream."""
    claims = getattr(room, "claims", None)
    if claims is None:
        return
    tenure = await log.seize(ADOPTER, room.log, partition, room.format, lease_s=LEASE_S)
    for stream_id in await log.busy(room.log, partition):
        history = (await log.histories(room.log, NO_FINGERPRINT, [stream_id]))[stream_id]
        if not history.events:
            continue
        state = await folder.state(room, stream_id, history)
        open_now = list(claims(state))
        if not open_now:
            continue
        stream = _Stream(room, folder, state, history.events[-1].version, stream_id, history.events[0].workspace)
        events = await stream.told(open_now, now)
        rows = await folder.rows(room, stream.state)
        await log.seize(ADOPTER, room.log, partition, room.format, lease_s=LEASE_S)
        batch = Batch(
            log=room.log,
            partition=partition,
            epoch=tenure.epoch,
            expected_position=tenure.last_position,
            events=events,
            rows=rows,
        )
        if (await log.append_events([batch])).stale:
            message = f"somebody took partition {partition} of {room.log} during the adoption; run it again"
            raise StaleOwnerError(message)
        tenure = Tenure(room.log, partition, tenure.epoch, tenure.last_position + len(events))
        done.given_up[stream_id] = len(open_now)


class _Stream:
    """A stream that is told commands outside an owner: effects are left to the owner that comes."""

    def __init__(self, room: AnyRoom, folder: Folder, state: Any, version: int, stream_id: str, workspace: str) -> None:
        self._room, self._folder = room, folder
        self.state = state
        self._version, self._stream_id, self._workspace = version, stream_id, workspace

    async def told(self, commands: Sequence[Any], now: int) -> list[NewEvent]:
        """Tell commands, then let the stream go on by itself so far as one append may; gives the events."""
        context = Context(now=now, stream_id=self._stream_id, workspace=self._workspace)
        events: list[NewEvent] = []
        for command in commands:
            await self._tell(command, context, events)
        while len(events) < BATCH_EVENTS_MAX and await self._tell(ADVANCE, context, events):
            continue
        return events

    async def _tell(self, command: Any, context: Context, events: list[NewEvent]) -> bool:
        decision = await self._folder.done(partial(self._room.decide, self.state, command, context))
        if isinstance(decision, Rejection):
            return False
        cause = str(type(command).__struct_config__.tag)
        meta = codec.dumps({"actor": {"id": SYSTEM.id, "name": SYSTEM.name}, "cause": cause})
        for event in decision:
            self.state = await self._folder.done(partial(self._room.evolve, self.state, event, context.now))
            events.append(self._new(event, context, meta))
        return bool(decision)

    def _new(self, event: Event, context: Context, meta: bytes) -> NewEvent:
        self._version += 1
        kind, data = event.type_name(), codec.encode(event)
        return NewEvent(self._stream_id, self._version, kind, event.SCHEMA, self._workspace, context.now, data, meta)
