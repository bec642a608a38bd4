"""The session that an owner beats on: one connection of its own, which ends with the process, and so tells of its end."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import asyncpg

from headrace.errors import UnavailableError
from headrace.log.connections import CONNECT_S, GONE_CLASSES, SETTINGS, STATEMENT_S, translated

CLOSE_S: Final = 1.0


class Session:
    """One connection that nobody else uses, opened when needed and again when it broke.

    `ended` of the last call hears, once, when the connection it went by has ended, whoever ended it.
    """

    def __init__(self, url: str, *, settings: Mapping[str, str]) -> None:
        self._url = url
        self._settings = {**SETTINGS, **settings}
        self._connection: asyncpg.Connection | None = None
        self._fresh = True
        self._closed = False
        self._ended: Callable[[], None] | None = None

    async def close(self) -> None:
        """End the session; closing again does nothing."""
        self._closed, self._ended = True, None
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await connection.close(timeout=CLOSE_S)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            connection.terminate()

    async def fetch(
        self, sql: str, *values: Any, ended: Callable[[], None] | None, timeout_s: float
    ) -> list[asyncpg.Record]:
        """Run one statement and give its rows; raises as `translated` says.

        Its last two arguments are the server's process as it is known here, and whether nothing was run there before.
        """
        with translated():
            connection = self._connection or await self._new()
            self._ended = ended
            sound = False
            try:
                found = list(
                    await connection.fetch(sql, *values, connection.get_server_pid(), self._fresh, timeout=timeout_s)
                )
                sound = True
            except asyncpg.PostgresError as problem:
                sound = not str(problem.sqlstate or "").startswith(GONE_CLASSES)
                raise
            finally:
                if not sound:
                    self._forget(connection)
                    connection.terminate()
            self._fresh = False
        return found

    async def _new(self) -> asyncpg.Connection:
        if self._closed:
            message = "the log is closed"
            raise UnavailableError(message)
        connection = await asyncpg.connect(
            self._url, timeout=CONNECT_S, command_timeout=STATEMENT_S, server_settings=self._settings
        )
        connection.add_termination_listener(self._over)
        self._connection, self._fresh = connection, True
        return connection

    def _over(self, connection: asyncpg.Connection) -> None:
        if self._forget(connection) and self._ended is not None:
            self._ended()

    def _forget(self, connection: asyncpg.Connection) -> bool:
        """Let go of a connection that is gone; False when that is known already, and told to whoever used it."""
        if self._connection is not connection:
            return False
        self._connection = None
        return True
