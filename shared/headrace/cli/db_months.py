"""Months of the log: which there are, taking them out into files, bringing them back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from headrace.cli.db_url import url
from headrace.cli.exits import FAILED
from headrace.cli.options import Out, Output, awaited, show, show_table
from headrace.config import from_env
from headrace.errors import ValidationError
from headrace.ids import month_text

if TYPE_CHECKING:
    from headrace.log.archive import Manifest
    from headrace.log.months import Months, Straggler
    from headrace.log.rebuild import Report


def months(output: Output = Out.TEXT) -> None:
    """List the months of the log: where each is, and which streams hold those that could leave."""
    from headrace.log.months import TIMELESS, Months

    async def look() -> list[dict[str, Any]]:
        async with Months.looking(url()) as kept:
            found = []
            for one in await kept.all():
                told = {**msgspec.to_builtins(one), "month": month_text(one.month), "state": one.state or "open"}
                held = await kept.stragglers(one.month) if one.attached and one.month != TIMELESS else []
                found.append({**told, "timeless": one.month == TIMELESS, "held_by": msgspec.to_builtins(held)})
            return found

    found = awaited(look())

    def text() -> None:
        columns = ("month", "state", "streams", "events", "held by")
        rows = [
            ("timeless" if one["timeless"] else one["month"], one["state"], one["streams"], one["events"], _held(one))
            for one in found
        ]
        show_table(columns, rows)

    show(output, found, text)


def archive(
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="YYYY-MM", help="Months before this one; else those beyond the retention."),
    ] = None,
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE", help="The file; or a folder, which gets one file a month.")
    ] = Path(),
    output: Output = Out.TEXT,
) -> None:
    """Write months whose streams are all over to files, and take them out of the database.

    What no event names any more is collected with them. Exit code 1 when a month is held by streams that are not over.
    """
    from headrace.log.months import named, parse

    limit = parse(before) if before else None
    done, held, collected = awaited(_archive(url(), limit, to))
    told = {
        "archived": [{"file": str(path), **msgspec.to_builtins(manifest)} for path, manifest in done],
        "held": {month_text(month): msgspec.to_builtins(streams) for month, streams in held.items()},
        "collected": {"bodies": collected[0], "bytes": collected[1]},
    }

    def text() -> None:
        for path, manifest in done:
            print(f"{manifest.month}: {manifest.streams} streams, {manifest.events} events -> {path}")
        for month, streams in held.items():
            print(f"{month_text(month)} stays: {named(streams)}")
        if not done and not held:
            print("nothing to archive")
        if collected[0]:
            print(f"{collected[0]} bodies that nothing names any more were collected ({collected[1]} bytes)")

    show(output, told, text)
    raise typer.Exit(FAILED if held else 0)


def collect(output: Output = Out.TEXT) -> None:
    """Collect the bodies (large outputs, artifacts) of purged runs that nothing else names: once last put a day ago.

    Reads the whole log. Without this they go when the months up to theirs are archived.
    """
    from headrace.log.months import Months

    async def go() -> tuple[int, int]:
        async with Months.keeping(url()) as kept:
            return await kept.collect_purged()

    count, size = awaited(go())
    said = f"{count} bodies of purged runs were collected ({size} bytes)" if count else "nothing to collect"
    show(output, {"bodies": count, "bytes": size}, lambda: print(said))


def restore(
    what: Annotated[
        str, typer.Argument(metavar="FILE", help="An archive; or YYYY-MM, a month detached and not yet archived.")
    ],
    output: Output = Out.TEXT,
) -> None:
    """Bring an archived month back, once it is proven against the chain, and make its rows again."""
    file = Path(what) if Path(what).is_file() else None
    month, report = awaited(_restore(url(), what, file))
    told = {"month": month_text(month), "streams": report.streams, "rows": report.rows}
    show(output, told, lambda: print(f"{told['month']} is back: {report.streams} streams, {report.rows} rows made"))


async def _archive(
    url: str, limit: int | None, to: Path
) -> tuple[list[tuple[Path, "Manifest"]], dict[int, "list[Straggler]"], tuple[int, int]]:
    from headrace.log import moving
    from headrace.log.months import TIMELESS, Months, before

    done: list[tuple[Path, Manifest]] = []
    held: dict[int, list[Straggler]] = {}
    async with Months.keeping(url) as kept:
        now = await kept.now()
        last = limit or before(now, from_env().retention_months)
        if last > before(now, 0):
            message = f"the month {month_text(before(now, 0))} is not over yet"
            raise ValidationError(message)
        await kept.forget_archived()
        wanted = [one for one in await kept.all() if one.stands and TIMELESS != one.month < last]
        if limit is None:
            wanted = [one for one in wanted if one.state != "restored"]
        for one in wanted:
            path = _file(to, one.month, alone=len(wanted) == 1)
            streams = await kept.detach(one.month)
            if streams:
                held[one.month] = streams
            else:
                done.append((path, await moving.archive(kept, one.month, path)))
        return done, held, await kept.collect() if done else (0, 0)


def _file(to: Path, month: int, *, alone: bool) -> Path:

    if to.is_dir():
        return to / f"headrace-{month_text(month)}.zip"
    if alone:
        return to
    message = f"several months are to be archived: make {to} a folder, or narrow it down by --before"
    raise ValidationError(message)


async def _restore(url: str, what: str, file: Path | None) -> "tuple[int, Report]":
    from headrace.clock import SystemClock
    from headrace.log import moving
    from headrace.log.months import Months, parse
    from headrace.log.postgres import PostgresLog
    from headrace.log.rebuild import rebuild

    async with Months.keeping(url) as kept:
        if file is not None:
            month = parse((await moving.restore(kept, file)).month)
        else:
            month = await _reattached(kept, what)
        log = await PostgresLog.open(url, SystemClock())
        try:
            return month, await rebuild(log, month=month)
        finally:
            await log.close()


async def _reattached(kept: "Months", what: str) -> int:
    from headrace.log.months import parse

    try:
        month = parse(what)
    except ValidationError as problem:
        message = f"{what} is neither a file nor a month like 2026-01"
        raise ValidationError(message) from problem
    await kept.reattach(month)
    return month


def _held(one: dict[str, Any]) -> str:
    held = one["held_by"]
    shown = ", ".join(each["stream_id"] for each in held[:2])
    return shown + (f" and {len(held) - 2} more" if len(held) > 2 else "")  # noqa: PLR2004  (two are enough to go on)
