"""Connections to Postgres: pooled, timed, healed by themselves, with the driver's errors in our words."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from headrace.errors import DatabaseVersionError, HeadraceError, UnavailableError, ValidationError
from headrace.log.port import DataError

CONNECT_S: Final = 5.0
STATEMENT_S: Final = 10.0
"""The longest that any ordinary statement may take, held by the server too."""
IDLE_CONNECTION_S: Final = 60.0
"""After so long a connection that nobody has used is closed: a process needs more while it starts than at rest."""
STATEMENTS_KEPT_S: Final = 300.0
STATEMENTS_KEPT_MAX: Final = 100
"""How long, and how many, statements stay prepared on a connection: as the driver keeps them. A plan ages with its tables."""
SQLSTATE_COPY: Final = "HR002"
DATA_CLASSES: Final = ("22", "23", "54", "HR")
"""Data that the store refuses: wrong data, broken constraints, over a limit, and our own refusals."""
GONE_CLASSES: Final = ("08", "57")
"""The connection is gone or going, or a statement was given up."""
SCHEMA_STATES: Final = ("3F000", "42P01", "42883", "42703", "42704")
SETTINGS: Final = {
    "application_name": "headrace",
    "statement_timeout": f"{int(STATEMENT_S * 1000)}",
    "lock_timeout": f"{int(STATEMENT_S * 500)}",
    "idle_in_transaction_session_timeout": f"{int(STATEMENT_S * 1000)}",
    "default_transaction_isolation": "read committed",
    "jit": "off",
}
BY_INDEX: Final = {"enable_seqscan": "off"}
"""For those whose statements all go by an index: a plan is kept that was made when a table was nearly empty, when reading
it from end to end seems as good, and a month's table grows by a hundred thousand rows before it is analyzed again."""


class Connections:
    """A few connections to one database, opened when needed, replaced when broken, closed when long unused.

    The driver's own pool costs as much as a small statement does; this one keeps what is free in a list.
    """

    def __init__(
        self, url: str, size: int, *, idle_s: float = IDLE_CONNECTION_S, settings: Mapping[str, str] | None = None
    ) -> None:
        self._url = url
        self._settings = {**SETTINGS, **(settings or {})}
        self._size = size
        self._idle_s = idle_s
        self._room = asyncio.Semaphore(size)
        self._all: set[_Backend] = set()
        self._free: list[_Backend] = []
        """What nobody uses; the one used last is used next."""
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False

    async def close(self) -> None:
        """Close all connections, waiting shortly for what is under way; closing again does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        try:
            async with asyncio.timeout(CONNECT_S):
                for _ in range(self._size):
                    await self._room.acquire()
                for backend in self._all:
                    await backend.connection.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            for backend in self._all:
                backend.connection.terminate()

    async def fetch(self, sql: str, *values: Any, timeout_s: float = STATEMENT_S) -> list[asyncpg.Record]:
        """Run one statement in one round trip and give its rows; raises as `translated` says."""
        if self._closed:
            message = "the log is closed"
            raise UnavailableError(message)
        with translated():
            if self._room.locked():
                async with asyncio.timeout(CONNECT_S):
                    await self._room.acquire()
            else:
                await self._room.acquire()
            try:
                return await self._fetch(sql, values, timeout_s)
            finally:
                self._room.release()

    async def value(self, sql: str, *values: Any, timeout_s: float = STATEMENT_S) -> Any:
        """Run one statement and give the first column of its first row, or None."""
        rows = await self.fetch(sql, *values, timeout_s=timeout_s)
        return rows[0][0] if rows else None

    async def _fetch(self, sql: str, values: tuple[Any, ...], timeout_s: float) -> list[asyncpg.Record]:
        backend = self._known() or await self._new()
        sound = False
        try:
            found = await backend.fetch(sql, values, timeout_s)
            sound = True
        except asyncpg.PostgresError as problem:
            sound = not str(problem.sqlstate or "").startswith(GONE_CLASSES)
            raise
        except asyncpg.InterfaceError as problem:
            sound = isinstance(problem, ValueError)  # values that were never sent
            raise
        finally:
            self._give_back(backend, sound=sound)
        return found

    def _known(self) -> "_Backend | None":
        """Give a free connection that stands."""
        while self._free:
            backend = self._free.pop()
            if not backend.connection.is_closed():
                return backend
            self._all.discard(backend)
        return None

    async def _new(self) -> "_Backend":
        backend = _Backend(
            await asyncpg.connect(
                self._url, timeout=CONNECT_S, command_timeout=STATEMENT_S, server_settings=self._settings
            )
        )
        self._all.add(backend)
        return backend

    def _give_back(self, backend: "_Backend", *, sound: bool) -> None:
        """Take a connection back. One whose statement was given up, or of which the driver lost track, is not used again."""
        if not sound or self._closed:
            backend.connection.terminate()
        if backend.connection.is_closed():
            self._all.discard(backend)
            return
        loop = asyncio.get_running_loop()
        backend.free_since = loop.time()
        self._free.append(backend)
        if self._reaper is None:
            self._reaper = loop.call_later(self._idle_s, self._reap)

    def _reap(self) -> None:
        """Close what nobody has used for `idle_s`, and look again when the next one may be due."""
        self._reaper = None
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._idle_s
        for backend in [one for one in self._free if one.free_since <= oldest]:
            backend.connection.terminate()
            self._all.discard(backend)
        self._free = [one for one in self._free if one.free_since > oldest]
        if self._free:
            self._reaper = loop.call_at(self._free[0].free_since + self._idle_s, self._reap)


class _Backend:
    """A connection, and the statements that are prepared on it.

    The driver keeps statements by itself, but the way to them takes a sixth of what a small statement takes here.
    """

    __slots__ = ("_since", "_statements", "connection", "free_since")

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.free_since = asyncio.get_running_loop().time()
        self._statements: dict[str, PreparedStatement] = {}
        self._since = self.free_since

    async def fetch(self, sql: str, values: tuple[Any, ...], timeout_s: float) -> list[asyncpg.Record]:
        """Run a statement and give its rows."""
        if self.free_since >= self._since + STATEMENTS_KEPT_S:
            self._forget()
        statement = self._statements.get(sql) or await self._prepare(sql, timeout_s)
        try:
            found: list[asyncpg.Record] = await statement.fetch(*values, timeout=timeout_s)
        except asyncpg.InvalidCachedStatementError:  # a migration changed what it gives; it did not run
            self._forget()
            found = await (await self._prepare(sql, timeout_s)).fetch(*values, timeout=timeout_s)
        return found

    async def _prepare(self, sql: str, timeout_s: float) -> PreparedStatement:
        if len(self._statements) >= STATEMENTS_KEPT_MAX:
            self._forget()
        statement = self._statements[sql] = await self.connection.prepare(sql, timeout=timeout_s)
        return statement

    def _forget(self) -> None:
        """Let go of all statements, which the driver closes before it prepares the next."""
        self._statements.clear()
        self._since = self.free_since


class Translated:
    """See `translated`. A generator would cost more than half of what is left of a small statement here."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Begin; there is nothing to do."""

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise the driver's error as ours."""
        if problem is None or isinstance(problem, HeadraceError):
            return
        if isinstance(problem, asyncpg.PostgresError):
            raise _named(problem) from problem
        if isinstance(problem, asyncpg.InterfaceError):
            raise _of_client(problem) from problem
        if isinstance(problem, OSError | TimeoutError | EOFError | asyncpg.InternalClientError):
            message = f"Postgres does not answer: {str(problem) or type(problem).__name__}"
            raise UnavailableError(message) from problem


_TRANSLATED: Final = Translated()


def translated() -> Translated:
    """Raise the driver's errors as ours: DataError, DatabaseVersionError, UnavailableError (outcome unknown)."""
    return _TRANSLATED


def _of_client(problem: asyncpg.InterfaceError) -> HeadraceError:
    if isinstance(problem, asyncpg.ClientConfigurationError):
        return ValidationError(f"the database URL cannot be used: {problem}")
    message = f"Postgres: {problem}"
    return DataError(message) if isinstance(problem, ValueError) else UnavailableError(message)


def _named(problem: asyncpg.PostgresError) -> HeadraceError:
    state, message = str(problem.sqlstate or ""), f"Postgres: {problem}"
    if state == SQLSTATE_COPY:
        return DatabaseVersionError(f"{message}; if that is meant, run `headrace db adopt`")
    if state.startswith(DATA_CLASSES):
        return DataError(message, details={"sqlstate": state})
    if state in SCHEMA_STATES:
        return DatabaseVersionError(f"{message}; run `headrace db migrate`")
    return UnavailableError(message, details={"sqlstate": state})
