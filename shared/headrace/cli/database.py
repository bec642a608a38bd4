"""The database: migrate, verify, rebuild, adopt; months in `db_months`. These work on Postgres directly, so they need no service to run."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
import typer

from headrace.cli import db_months
from headrace.cli.db_url import url
from headrace.cli.exits import FAILED
from headrace.cli.options import Out, Output, awaited, show

app = typer.Typer(
    no_args_is_help=True, help="The database: migrate, verify, rebuild, adopt, months, archive, restore, collect."
)
for _command in (db_months.months, db_months.archive, db_months.restore, db_months.collect):
    app.command()(_command)


@app.command()
def migrate(output: Output = Out.TEXT) -> None:
    """Bring the database's schema to this version; again: nothing. A newer database is refused."""
    from headrace.log.migrate import migrate as apply

    applied = awaited(apply(url()))
    show(output, {"applied": applied}, lambda: print("\n".join(applied) or "nothing to do: the schema is up to date"))


@app.command()
def verify(output: Output = Out.TEXT) -> None:
    """Walk the hash chain of every partition, and name the first place where it does not hold."""

    async def todo(log: Any) -> list[dict[str, Any]]:
        from headrace.log.port import Break

        told: list[dict[str, Any]] = []
        async for each in log.verify():
            place = (each.log, each.partition, each.position) if isinstance(each, Break) else each
            archived = await log.archived(*place[:2])
            one = dict(zip(("log", "partition", "position"), place, strict=True))
            told.append({**one, "broken": each.reason if isinstance(each, Break) else None, "archived": archived})
        return told

    partitions = awaited(_with_log(todo))
    broken = [each for each in partitions if each["broken"]]

    def text() -> None:
        for each in partitions:
            place = f"{each['log']}/{each['partition']}"
            if each["broken"]:
                print(f"{place}: BROKEN at position {each['position']}: {each['broken']}")
            else:
                print(f"{place}: the chain holds up to position {each['position']}")
            if each["archived"]:
                ranges = ", ".join(
                    f"{first}-{last}" if first < last else f"{first}" for first, last in each["archived"]
                )
                print(f"  archived, known by their leaves alone: {ranges}")

    show(output, {"holds": not broken, "partitions": partitions}, text)
    raise typer.Exit(FAILED if broken else 0)


async def _with_log[Result](todo: Callable[[Any], Awaitable[Result]]) -> Result:
    from headrace.clock import SystemClock
    from headrace.log.postgres import PostgresLog

    log = await PostgresLog.open(url(), SystemClock())
    try:
        return await todo(log)
    finally:
        await log.close()


@app.command()
def adopt(
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Also when it is not known as a copy: one of a stopped server's files.")
    ] = False,
    output: Output = Out.TEXT,
) -> None:
    """Make a restored copy a database of its own: verified, rebuilt, open writes given up, all epochs raised."""
    from headrace.clock import SystemClock
    from headrace.log.adopt import adopt as take

    done = awaited(take(url(), SystemClock(), force=force))
    unknown = sum(done.given_up.values())

    def text() -> None:
        print(f"the chains hold: {done.positions} events")
        print(f"{done.rebuilt.rows} rows made again, {done.rebuilt.changed} of them mended")
        print(f"{unknown} writes had been permitted and not reported: given up, their outcome is unknown")
        for stream_id, count in sorted(done.given_up.items()):
            print(f"- {stream_id}: {count}")
        print(f"adopted: its incarnation is now {done.incarnation}")
        print(f"if the original lives on the same NATS, start workers with HEADRACE_INCARNATION={done.incarnation}")

    show(output, msgspec.to_builtins(done), text)


@app.command()
def rebuild(output: Output = Out.TEXT) -> None:
    """Make all projections again from the log, and say what differed from what was there."""

    async def todo(log: Any) -> dict[str, Any]:
        from headrace.log.months import Months
        from headrace.log.rebuild import rebuild as again

        async with Months.keeping(url()):  # no month comes or goes meanwhile
            report = await again(log)
        told: dict[str, Any] = msgspec.to_builtins(report)
        return told

    report = awaited(_with_log(todo))

    def text() -> None:
        print(f"{report['streams']} streams read, {report['rows']} rows made")
        print("nothing changed" if not report["changed"] else f"{report['changed']} rows were mended:")
        for example in report["examples"]:
            print(f"- {example}")

    show(output, report, text)
