"""The proof after a run: every hash chain holds, and all tables can be made again from the log without a change."""

from collections.abc import Callable

from headrace.clock import Clock
from headrace.errors import ConflictError
from headrace.log.port import Break
from headrace.log.postgres import PostgresLog
from headrace.log.rebuild import rebuild


async def give(database_url: str, clock: Clock, say: Callable[[str], None]) -> None:
    """Verify and rebuild, saying what was found; raises ConflictError when something does not hold."""
    log = await PostgresLog.open(database_url, clock)
    try:
        await _verify(log, say)
        await _rebuild(log, say)
    finally:
        await log.close()


async def _verify(log: PostgresLog, say: Callable[[str], None]) -> None:
    chains = events = 0
    async for each in log.verify():
        if isinstance(each, Break):
            message = f"the chain of {each.log}/{each.partition} is broken at {each.position}: {each.reason}"
            raise ConflictError(message)
        chains, events = chains + 1, events + each[2]
    say(f"verified: {events} events in {chains} hash chains, each byte as it was written")


async def _rebuild(log: PostgresLog, say: Callable[[str], None]) -> None:
    report = await rebuild(log)
    if report.changed:
        message = f"a rebuild changed {report.changed} rows: {'; '.join(report.examples)}"
        raise ConflictError(message)
    say(f"rebuilt: {report.rows} rows of {report.streams} streams made again from the log; nothing changed")
