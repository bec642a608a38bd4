"""The first access token of an installation: minted once, its text in the data folder, its hash in the catalogue."""

import asyncio
from typing import Final

import msgspec

from headrace import codec
from headrace.bus.jetstream import JetStreamBus
from headrace.client import tokens
from headrace.clock import Clock
from headrace.dev.children import Place
from headrace.dev.home import Home, write_private
from headrace.errors import HeadraceError, UnavailableError, from_envelope
from headrace.events.base import Actor
from headrace.keys import COMMANDS, secret_hash
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
        incarnation = log.incarnation
    finally:
        await log.close()
    made = tokens.mint(clock.entropy() + clock.entropy() + clock.entropy())
    body = CreateToken(token_id=made.id, name="admin", roles=(Role.ADMIN,), secret_hash=secret_hash(made.secret))
    command = Command(body=codec.raw(body), actor=CREATOR, workspace=workspace, stream_id=made.id)
    bus = await JetStreamBus.connect(place.nats_url, incarnation, clock)
    try:
        answer = await _answer(bus, place.keys.pack(COMMANDS, codec.encode(command)), clock)
    finally:
        await bus.close()
    if answer.error is not None:
        raise from_envelope(msgspec.to_builtins(answer.error))
    write_private(home.token_file, made.text + "\n")


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
    async with asyncio.timeout(ANSWERED_S):
        while True:
            try:
                reply = await bus.command(LOG_CATALOGUE, 0, data, timeout_s=ASK_S)
            except UnavailableError:
                await clock.sleep(AGAIN_S)
            else:
                return msgspec.json.decode(reply, type=Answer)
