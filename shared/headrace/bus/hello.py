"""How processes that hold no database learn which incarnation they serve.

Whoever read the incarnation from the database says it when it connects and whenever it is asked. A worker asks once and
listens. Two databases on one NATS (a restored copy beside its original) would both answer: the worker then takes neither.
"""

import asyncio
import logging
from functools import partial
from typing import Final

from nats.aio.msg import Msg

from headrace.bus import subjects
from headrace.bus.connection import Connection
from headrace.bus.listening import Listening
from headrace.bus.opening import until_open
from headrace.errors import ConflictError

logger = logging.getLogger(__name__)
COLLECT_S: Final = 0.05
ASK_AGAIN_S: Final = 10.0
SAYABLE_CHARS_MAX: Final = 200


class Hello:
    """Says the incarnation of this process's database to those who ask."""

    def __init__(self, connection: Connection, incarnation: str) -> None:
        self._connection = connection
        self._incarnation = incarnation
        self._listening: Listening | None = None

    async def open(self) -> None:
        """Begin to answer, once there is a connection."""
        ask = partial(self._connection.listen, subjects.HELLO_ASK, self._on_ask)
        self._listening = await until_open(ask, self._connection.clock)
        self._connection.on_connect.append(self.say)
        self.say()

    async def close(self) -> None:
        """Answer no more."""
        listening, self._listening = self._listening, None
        if listening is not None:
            self._connection.on_connect.remove(self.say)
            await listening.close()

    def say(self) -> None:
        """Say it to everybody who listens."""
        self._connection.send(subjects.HELLO_IS, self._incarnation.encode())

    def _on_ask(self, _message: Msg) -> None:
        self.say()


async def learn_incarnation(connection: Connection) -> str:
    """Ask until somebody who has the database answers.

    Raises ConflictError when two answers differ.
    """
    heard: set[str] = set()
    first = asyncio.Event()

    def on_hello(message: Msg) -> None:
        heard.add(message.data.decode("utf-8", "replace")[:SAYABLE_CHARS_MAX])
        first.set()

    listening = await until_open(partial(connection.listen, subjects.HELLO_IS, on_hello), connection.clock)
    try:
        while not first.is_set():
            connection.send(subjects.HELLO_ASK, b"")
            try:
                async with asyncio.timeout(ASK_AGAIN_S):
                    await first.wait()
            except TimeoutError:
                logger.warning("no planner has said hello on NATS yet; waiting for one")
        await asyncio.sleep(COLLECT_S)
    finally:
        await listening.close()
    if len(heard) > 1:
        message = f"databases {', '.join(sorted(heard))} share this NATS; give each a NATS or an account of its own"
        raise ConflictError(message)
    return heard.pop()
