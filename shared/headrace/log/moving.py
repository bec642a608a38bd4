"""Moving a detached month into an archive, and back into the log."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace import codec, ids
from headrace.errors import ConflictError, ValidationError
from headrace.ids import month_text
from headrace.log.archive import (
    BLOBS,
    LINES,
    Archive,
    Bound,
    Chained,
    Kept,
    Manifest,
    Place,
    Writer,
    blob_member,
    chain_member,
    digests_in,
    events_member,
    place_of,
)
from headrace.log.chain import GENESIS, Link
from headrace.log.months import OVER, ROWS_A_STEP, Month, Months, between, not_so, parse
from headrace.log.queries import QUERIES
from headrace.vocabulary import LOG_RUNS

COLUMNS: Final = (
    "month", "log", "partition", "position", "stream_id", "version", "type", "schema", "workspace", "at", "data", "meta",
)  # fmt: skip
LINE_COLUMNS: Final = (
    "run_id", "attempt_id", "sequence", "step", "at", "text", "workspace", "index", "stream", "level",
)  # fmt: skip
SCHEMA: Final = "headrace"


async def archive(months: Months, month: int, path: Path) -> Manifest:
    """Write a month that is detached to a new file, read it back, and drop its table.

    Who died before the table was dropped has left a file that counts for nothing: it is written anew. Raises
    ConflictError when the month is not detached, ValidationError when the file cannot be written.
    """
    known = await months.one(month)
    if known.state != "detached" or not known.stands:
        message = f"the month {month_text(month)} is {known.state or 'open'}, not detached"
        raise ConflictError(message)
    positions = await _positions(months, month)
    with Writer(path, over=_cut_off(months, known, positions, path)) as writer:
        digests: set[str] = set()
        for place in sorted(map(place_of, positions)):
            digests |= await _write_events(months, month, place, writer)
            await _write_chain(months, place, positions["/".join(map(str, place))], writer)
        lines = await _write_lines(months, month, writer)
        blobs = await _write_blobs(months, digests, writer)
        manifest = Manifest(
            month=month_text(month),
            incarnation=months.incarnation,
            made_at=await months.now(),
            streams=known.streams or 0,
            events=known.events or 0,
            lines=lines,
            blobs=blobs,
            positions=positions,
            members=writer.members,
        )
        digest = writer.finish(manifest)
    async with months.connection.transaction():
        await months.connection.execute(QUERIES["note_departed"], month)
        await months.connection.execute(QUERIES["drop_month"].format(month=month))
        await months.connection.execute(QUERIES["month_is"], month, "dropped", digest)
    await months.forget_lines(month)
    return manifest


async def restore(months: Months, path: Path) -> Manifest:
    """Bring an archived month back into the log, once it is proven to be what the chain says; its rows are to be rebuilt.

    Raises ValidationError when the file is no archive or damaged, ConflictError when it is not of this log, or when the
    month is not away.
    """
    with Archive(path) as given:
        month = parse(given.manifest.month)
        known = await months.one(month)
        if await months.lacks_rows(known):  # who brought it back died before its rows were made
            return given.manifest
        if known.state != "dropped":
            raise ConflictError(not_so(known))
        given.check()
        if await _positions(months, month) != given.manifest.positions:
            message = f"{path} does not hold the positions that this log archived for {month_text(month)}"
            raise ConflictError(message)
        for place in given.places():
            await _hold_against_chain(months, place, given)
        await _put_beside(months, given)
        async with months.connection.transaction():
            await _put_back(months, month, given)
            await months.connection.execute(QUERIES["reattach_month"], month)
            await months.connection.execute(QUERIES["unbound_month"].format(month=month))
        return given.manifest


# writing


def _cut_off(months: Months, known: Month, positions: dict[str, list[tuple[int, int]]], path: Path) -> bool:
    """Tell whether a file is what an archiving of this very month left that died before the table was dropped."""
    try:
        with Archive(path) as there:
            made = there.manifest.month, there.manifest.incarnation, there.manifest.positions
            return made == (month_text(known.month), months.incarnation, positions) and there.digest != known.archive
    except ValidationError:
        return False


async def _positions(months: Months, month: int) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for row in await months.connection.fetch(QUERIES["archived_places"], month):
        found.setdefault(f"{row['log']}/{row['partition']}", []).append((row["first"], row["last"]))
    return found


async def _write_events(months: Months, month: int, place: Place, writer: Writer) -> set[str]:
    """Write a partition's events; gives the digests that they name."""
    digests: set[str] = set()
    sql, after = QUERIES["events_of_month"].format(month=month), 0
    with writer.lines(events_member(place)) as member:
        while rows := await months.connection.fetch(sql, *place, after, ROWS_A_STEP):
            for row in rows:
                digests |= digests_in(row["data"])
                kept = Kept(**{**dict(row), "data": row["data"].decode(), "meta": row["meta"].decode()})
                member.write(msgspec.json.encode(kept) + b"\n")
            after = rows[-1]["position"]
    return digests


async def _write_chain(months: Months, place: Place, ranges: list[tuple[int, int]], writer: Writer) -> None:
    with writer.lines(chain_member(place)) as member:
        links = _links(months, place, ranges[0][0], ranges[-1][1])
        first = await anext(links)
        before = await months.connection.fetchval(QUERIES["link_before"], *place, first.first) or GENESIS
        member.write(msgspec.json.encode(Chained(0, first.first - 1, "", before.hex())) + b"\n")
        member.write(_chained(first))
        async for link in links:
            member.write(_chained(link))


async def _links(months: Months, place: Place, first: int, last: int) -> AsyncIterator[Link]:
    """Read the links that reach from one position to another."""
    after = 0
    while rows := await months.connection.fetch(QUERIES["links_between"], *place, first, last, after, ROWS_A_STEP):
        for row in rows:
            yield Link(*row)
        after = rows[-1]["first_position"]


def _chained(link: Link) -> bytes:
    return msgspec.json.encode(Chained(link.first, link.last, link.leaves.hex(), link.hash.hex())) + b"\n"


async def _write_lines(months: Months, month: int, writer: Writer) -> int:
    count, (first, after) = 0, between(OVER[LOG_RUNS][0], month)
    run_id, line_id = first, 0
    with writer.lines(LINES) as member:
        while True:
            rows = await months.connection.fetch(QUERIES["lines_between"], first, after, run_id, line_id, ROWS_A_STEP)
            if not rows:
                return count
            for row in rows:
                member.write(codec.dumps({name: row[name] for name in LINE_COLUMNS}) + b"\n")
            count, run_id, line_id = count + len(rows), rows[-1]["run_id"], rows[-1]["id"]


async def _write_blobs(months: Months, digests: set[str], writer: Writer) -> int:
    """Write the bodies that events name; what no body has (a digest of inputs, say) is left out."""
    bound: list[bytes] = []
    for digest in sorted(digests):
        found = await months.connection.fetch(QUERIES["get_blobs"], [digest])
        if not found:
            continue
        workspaces = [row["workspace"] for row in await months.connection.fetch(QUERIES["blob_workspaces"], digest)]
        writer.member(blob_member(digest), [found[0]["body"]])
        bound.append(msgspec.json.encode(Bound(digest, workspaces)) + b"\n")
    writer.member(BLOBS, bound)
    return len(bound)


# bringing back


async def _hold_against_chain(months: Months, place: Place, given: Archive) -> None:
    """See that the chain in the file, which vouches for its events, is the chain of this log."""
    name = f"{place[0]}/{place[1]}"
    ranges = given.manifest.positions[name]
    theirs = given.links(place)
    async for link in _links(months, place, ranges[0][0], ranges[-1][1]):
        if next(theirs, None) != link:
            message = f"the archive is not of this log: its chain of {name} differs at position {link.first}"
            raise ConflictError(message)
    if next(theirs, None) is not None:
        message = f"the archive is not of this log: its chain of {name} is longer"
        raise ConflictError(message)


async def _put_beside(months: Months, given: Archive) -> None:
    """Put bodies and lines back, each at once: again is nothing."""
    for bound in given.bound():
        body = given.body(bound.digest)
        if codec.sha256(body) != bound.digest:
            message = f"the body {bound.digest} in the archive is another's"
            raise ValidationError(message)
        await months.connection.execute(QUERIES["put_blob"], bound.digest, body, None)
        await months.connection.execute(QUERIES["bind_blob"], bound.digest, bound.workspaces)
    for rows in _chunks(tuple(line[name] for name in LINE_COLUMNS) for line in given.lines()):
        await months.connection.fetch(QUERIES["keep_lines"], *[list(column) for column in zip(*rows, strict=True)])


async def _put_back(months: Months, month: int, given: Archive) -> None:
    """Make the month's table again, apart from the log."""
    await months.connection.execute(QUERIES["make_month"].format(month=month))
    await months.connection.execute(QUERIES["bound_month"].format(month=month))  # attaching needs no second look then
    for place in given.places():
        for rows in _chunks(_records(month, place, given)):
            await months.connection.copy_records_to_table(
                f"events_{month}", schema_name=SCHEMA, columns=COLUMNS, records=rows
            )
    await months.connection.execute(QUERIES["guard_month"].format(month=month))


def _records(month: int, place: Place, given: Archive) -> Iterator[tuple[Any, ...]]:
    for kept in given.events(place):
        event = kept.event()
        if ids.month_of(event.stream_id) != month:
            message = f"{event.stream_id} was not created in the month of the archive"
            raise ValidationError(message)
        yield (month, *place, kept.position, *msgspec.structs.astuple(event))


def _chunks(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Give rows some at a time."""
    chunk: list[tuple[Any, ...]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == ROWS_A_STEP:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
