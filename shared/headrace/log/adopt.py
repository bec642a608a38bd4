"""Make a restored copy a database of its own: a new incarnation, every epoch raised, every lease ended."""

import asyncpg

from headrace.log.connections import translated
from headrace.log.migrate import CONNECT_S
from headrace.log.queries import QUERIES


async def adopt(url: str) -> str:
    """Take the database over and give its new incarnation.

    The incarnation is part of subjects and message ids, so nothing that was under way for the original reaches the
    copy, and owners of the original are refused by epoch and incarnation. Raises UnavailableError.
    """
    with translated():
        connection = await asyncpg.connect(url, timeout=CONNECT_S, command_timeout=CONNECT_S)
        try:
            return str(await connection.fetchval(QUERIES["adopt"]))
        finally:
            await connection.close()
