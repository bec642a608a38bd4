"""Bring a database to this code's schema, forward only; and tell whether it is there."""

import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

import asyncpg
import msgspec

from headrace.errors import DatabaseVersionError
from headrace.log.connections import translated
from headrace.log.queries import QUERIES
from headrace.vocabulary import LOG_PARTITIONS

FILE: Final = re.compile(r"(\d{4})_(\w+)\.sql")
CONNECT_S: Final = 10.0
MIGRATE_S: Final = 600.0
COPY: Final = (
    "this database is a copy: it was {home} and is now {here}. Run `headrace db adopt` if the original is gone or must "
    "not be continued here; it makes the copy a database of its own"
)


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Give the digest of the step's text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> tuple[Migration, ...]:
    """Give this code's migrations in order."""
    found = []
    for file in files("headrace.log.migrations").iterdir():
        match = FILE.fullmatch(file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda one: one.version))


async def migrate(url: str, *, partitions: Mapping[str, int] = LOG_PARTITIONS) -> list[str]:
    """Apply what is missing and give the names of what was applied; safe to call by several at once.

    `partitions` are what logs that are not there yet get. Raises DatabaseVersionError when the database is too new for
    this code or another migration was applied under a known number, UnavailableError when it does not answer.
    """
    applied: list[str] = []
    with translated():
        connection = await asyncpg.connect(url, timeout=CONNECT_S, command_timeout=MIGRATE_S)
        try:
            async with connection.transaction():
                await connection.execute(QUERIES["migration_lock"])
                if not await connection.fetchval(QUERIES["schema_exists"]):
                    await connection.execute(QUERIES["make_migrations"])
                known = await _known(connection)
                for one in migrations()[len(known) :]:
                    await connection.execute(one.sql)
                    await connection.execute(QUERIES["record_migration"], one.version, one.name, one.checksum)
                    applied.append(f"{one.version:04} {one.name}")
                for log, count in partitions.items():
                    await connection.execute(QUERIES["create_log"], log, count)
        finally:
            await connection.close()
    return applied


async def check(url: str) -> str:
    """Give the incarnation of a database that this code can use; raises DatabaseVersionError, UnavailableError."""
    with translated():
        connection = await asyncpg.connect(url, timeout=CONNECT_S, command_timeout=CONNECT_S)
        try:
            return await inspect(connection)
        finally:
            await connection.close()


async def inspect(connection: asyncpg.Connection) -> str:
    """Check an open connection's database; as `check`."""
    await compatible(connection)
    meta = await connection.fetchrow(QUERIES["meta"])
    if meta["home"] != meta["here"]:
        raise DatabaseVersionError(COPY.format(home=meta["home"], here=meta["here"]))
    return str(meta["incarnation"])


async def compatible(connection: asyncpg.Connection) -> None:
    """Check that this code can work with a database's schema, copy or not; raises DatabaseVersionError."""
    if not await connection.fetchval(QUERIES["schema_exists"]):
        message = "the database has no headrace schema; run `headrace db migrate`"
        raise DatabaseVersionError(message)
    known, ours = await _known(connection), migrations()
    if len(known) < len(ours):
        message = (
            f"the database is at version {len(known)}, this code needs version {ours[-1].version}; "
            "run `headrace db migrate`"
        )
        raise DatabaseVersionError(message)


async def _known(connection: asyncpg.Connection) -> list[tuple[int, str]]:
    """Read what was applied; raises DatabaseVersionError when that does not begin as this code's migrations do.

    What a newer version has added since is no harm as long as it says that this code works with it.
    """
    rows = await connection.fetch(QUERIES["applied_migrations"])
    ours = {one.version: one for one in migrations()}
    newest = max(ours)
    if rows and rows[-1]["version"] > newest:
        works_with = await connection.fetchval(QUERIES["works_with"])
        if newest < works_with:
            message = (
                f"the database is at version {rows[-1]['version']}, which works with code of version {works_with} or "
                f"later, this code knows versions up to {newest}: use a newer headrace with it"
            )
            raise DatabaseVersionError(message)
    for row in rows:
        if row["version"] > newest:
            break
        one = ours.get(row["version"])
        if one is None or one.checksum != row["checksum"]:
            message = (
                f"migration {row['version']:04} {row['name']} of the database is not this code's: the file was changed "
                "after it was applied, or the database belongs to another build. Use the build that made it, or, if its "
                "data may go, an empty database (for the embedded one: delete its folder, .headrace/postgres)"
            )
            raise DatabaseVersionError(message)
    return [(row["version"], row["name"]) for row in rows]
