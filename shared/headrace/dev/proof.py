"""The proof after a run: every hash chain holds, and all tables can be made again from the log without a change."""

import contextlib
from collections.abc import Callable

from headrace.clock import Clock
from headrace.errors import ConflictError
from headrace.log.port import Break
from headrace.log.postgres import PostgresLog
from headrace.log.rebuild import rebuild
from headrace.service import installed, load


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
    async with contextlib.aclosing(log.verify()) as found:
        async for each in found:
            if isinstance(each, Break):
                message = f"the chain is broken: {each}"
                raise ConflictError(message)
            chains, events = chains + 1, events + each[2]
    say(f"verified: {events} events in {chains} hash chains, each byte as it was written")


async def _rebuild(log: PostgresLog, say: Callable[[str], None]) -> None:
    services = [load(name) for name in sorted(installed())]
    rooms = [room for service in services if hasattr(service, "rooms") for room in service.rooms]
    report = await rebuild(log, rooms)
    say(f"rebuilt from the log: {report}")
