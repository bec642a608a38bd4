"""Connections to Postgres: pooled, timed, healed by themselves, with the driver's errors in our words."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import asyncpg

from headrace.errors import DatabaseVersionError, HeadraceError, UnavailableError, ValidationError
from headrace.log.port import DataError

CONNECT_S: Final = 5.0
STATEMENT_S: Final = 10.0
"""The longest that any ordinary statement may take, held by the server too."""
IDLE_CONNECTION_S: Final = 60.0
SQLSTATE_COPY: Final = "HR002"
DATA_CLASSES: Final = ("22", "23", "54", "HR")
"""Data that the store refuses: wrong data, broken constraints, over a limit, and our own refusals."""
SCHEMA_STATES: Final = ("3F000", "42P01", "42883", "42703", "42704")
SETTINGS: Final = {
    "application_name": "headrace",
    "statement_timeout": f"{int(STATEMENT_S * 1000)}",
    "lock_timeout": f"{int(STATEMENT_S * 500)}",
    "idle_in_transaction_session_timeout": f"{int(STATEMENT_S * 1000)}",
    "default_transaction_isolation": "read committed",
    "jit": "off",
}


class Connections:
    """A few connections to one database, opened when needed and replaced when broken."""

    def __init__(self, url: str, size: int) -> None:
        self._pool = asyncpg.create_pool(
            url,
            min_size=0,
            max_size=size,
            max_inactive_connection_lifetime=IDLE_CONNECTION_S,
            timeout=CONNECT_S,
            command_timeout=STATEMENT_S,
            server_settings=SETTINGS,
            reset=_leave_as_it_is,
        )

    async def open(self) -> None:
        """Begin; connects nowhere yet."""
        with translated():
            await self._pool

    async def close(self) -> None:
        """Close all connections, waiting shortly for what is under way."""
        try:
            await asyncio.wait_for(self._pool.close(), CONNECT_S)
        except TimeoutError:
            self._pool.terminate()

    async def fetch(self, sql: str, *values: Any, timeout_s: float = STATEMENT_S) -> list[asyncpg.Record]:
        """Run one statement in one round trip and give its rows; raises as `translated` says."""
        with translated():
            async with self._pool.acquire(timeout=CONNECT_S) as connection:
                try:
                    return list(await connection.fetch(sql, *values, timeout=timeout_s))
                except asyncpg.InternalClientError:
                    connection.terminate()  # the driver lost track of a dying connection: it must not be used again
                    raise

    async def value(self, sql: str, *values: Any, timeout_s: float = STATEMENT_S) -> Any:
        """Run one statement and give the first column of its first row, or None."""
        rows = await self.fetch(sql, *values, timeout_s=timeout_s)
        return rows[0][0] if rows else None


async def _leave_as_it_is(_: asyncpg.Connection) -> None:
    """Spare the round trip of a reset: we change no session state."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise the driver's errors as ours: DataError, DatabaseVersionError, UnavailableError (outcome unknown)."""
    try:
        yield
    except HeadraceError:
        raise
    except asyncpg.PostgresError as problem:
        raise _named(problem) from problem
    except asyncpg.InterfaceError as problem:
        raise _of_client(problem) from problem
    except (OSError, TimeoutError, EOFError, asyncpg.InternalClientError) as problem:
        message = f"Postgres does not answer: {str(problem) or type(problem).__name__}"
        raise UnavailableError(message) from problem


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
