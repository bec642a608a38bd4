"""The first access token of an installation: minted once, its text in the data folder, its hash in the catalogue.

`headrace up` does it by itself. Where services are deployed, `python -m headrace.dev.first_token` in the environment of
a planner mints one for an admin and prints it: who holds the installation's secret may.
"""

import asyncio
import sys
from typing import Final

import msgspec

from headrace import codec
from headrace.bus.jetstream import JetStreamBus
from headrace.client import tokens
from headrace.clock import Clock, SystemClock
from headrace.config import Config, from_env
from headrace.dev.children import Place
from headrace.dev.home import Home, write_private
from headrace.errors import HeadraceError, UnavailableError, ValidationError, from_envelope
from headrace.events.base import Actor
from headrace.keys import COMMANDS, secret_hash
from headrace.log.migrate import check
from headrace.log.postgres import PostgresLog
from headrace.messages import Answer, Command, CreateToken
from headrace.vocabulary import LOG_CATALOGUE, Role

ANSWERED_S: Final = 30.0
ASK_S: Final = 2.0
AGAIN_S: Final = 0.05
CREATOR: Final = Actor(id="up", name="headrace up", roles=(Role.ADMIN,))


async def ensure(home: Home, place: Place, workspace: str, clock: Clock) -> None:
    """See to it that the data folder holds a token that the database knows; raises UnavailableError."""
    log = await PostgresLog.open(place.database_url, clock)
    try:
        text = home.token()
        if text is not None and await _is_known(log, text):
            return
    finally:
        await log.close()
    write_private(home.token_file, await mint(place, workspace, clock) + "\n")


async def mint(place: Place, workspace: str, clock: Clock) -> str:
    """Make a token of an admin and give its text; raises UnavailableError while nobody owns the catalogue."""
    made = tokens.mint(clock.entropy() + clock.entropy() + clock.entropy())
    body = CreateToken(token_id=made.id, name="admin", roles=(Role.ADMIN,), secret_hash=secret_hash(made.secret))
    command = Command(body=codec.raw(body), actor=CREATOR, workspace=workspace, stream_id=made.id)
    bus = await JetStreamBus.connect(place.nats_url, place.incarnation, clock)
    try:
        answer = await _answer(bus, place.keys.pack(COMMANDS, codec.encode(command)), clock)
    finally:
        await bus.close()
    if answer.error is not None:
        raise from_envelope(msgspec.to_builtins(answer.error))
    return made.text


async def _is_known(log: PostgresLog, text: str) -> bool:
    """Tell whether a token is one of this database's: the folder may have met another one since."""
    try:
        token_id, secret = tokens.parse(text)
    except HeadraceError:
        return False
    row = await log.row("tokens", {"id": token_id})
    return row is not None and row["revoked_at"] is None and row["secret_hash"] == secret_hash(secret)


async def _answer(bus: JetStreamBus, data: bytes, clock: Clock) -> Answer:
    """Ask the catalogue's owner, again while nobody owns it yet. The token's id makes a repeat harmless."""
    try:
        async with asyncio.timeout(ANSWERED_S):
            while True:
                try:
                    reply = await bus.command(LOG_CATALOGUE, 0, data, timeout_s=ASK_S)
                except UnavailableError:
                    await clock.sleep(AGAIN_S)
                else:
                    return msgspec.json.decode(reply, type=Answer)
    except TimeoutError as problem:
        message = f"no planner answered within {ANSWERED_S:g} s, so no token was made; see that one runs"
        raise UnavailableError(message) from problem


async def _minted(config: Config) -> str:
    """Mint a token for a deployment, by the environment of one of its owners."""
    if not config.database_url or not config.nats_url:
        message = "HEADRACE_DATABASE_URL and HEADRACE_NATS_URL must be set, and the installation's secret"
        raise ValidationError(message)
    place = Place(
        database_url=config.database_url,
        nats_url=config.nats_url,
        secret_file=config.data_dir / "secret",
        keys=config.keys,
        incarnation=await check(config.database_url),
    )
    return await mint(place, config.workspace, SystemClock())


if __name__ == "__main__":
    try:
        print(asyncio.run(_minted(from_env())))  # noqa: T201  (a command prints)
    except HeadraceError as problem:
        sys.exit(f"error: {problem.type}: {problem.message}")
