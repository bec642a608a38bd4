"""A core subscription: made again with each client that a connection has, and ended whether the server answers or not."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription
from nats.errors import Error as NatsError

from headrace.bus.limits import FLUSH_TIMEOUT_S
from headrace.bus.quick import QuickClient

logger = logging.getLogger(__name__)


class Way(Protocol):
    """What a subscription needs of the connection that it is made on."""

    @property
    def gone(self) -> bool:
        """Tell whether there is no client to speak to."""
        ...

    async def handled(self) -> None:
        """Wait until the server has handled all that was sent; raises TimeoutError."""
        ...

    def forget(self, listening: "Listening") -> None:
        """Do not subscribe again."""
        ...


class Listening:
    """A core subscription that outlives the client it was made with."""

    def __init__(self, connection: Way, subject: str, hear: Callable[[Msg], None]) -> None:
        self.subject = subject
        self._connection = connection
        self._hear = hear
        self._held: NatsSubscription | None = None

    async def begin(self, client: QuickClient) -> None:
        """Subscribe with a client; also with the next one, if a client was closed for good."""
        self._held = await client.hear(self.subject, self._hear)

    async def close(self) -> None:
        """Stop listening."""
        await self._end(drain=False)

    async def drain(self) -> None:
        """Stop listening once everything was heard that is on its way."""
        await self._end(drain=True)

    async def abandon(self) -> None:
        """Stop listening, whether the server has heard of it or not: whoever tries again shall not hear twice."""
        self._connection.forget(self)
        held, self._held = self._held, None
        if held is not None and not self._connection.gone:
            with contextlib.suppress(NatsError, OSError):
                await held.unsubscribe()

    async def _end(self, *, drain: bool) -> None:
        self._connection.forget(self)
        held, self._held = self._held, None
        if held is None or self._connection.gone:
            return
        try:
            if drain:
                await self._drain(held)
            else:
                await held.unsubscribe()
                await self._connection.handled()
        except (NatsError, OSError, TimeoutError) as problem:
            logger.debug("unsubscribing from %s: %s", self.subject, problem)

    async def _drain(self, held: NatsSubscription) -> None:
        try:
            await self._connection.handled()
        except TimeoutError:  # it hangs: nothing is on its way
            await held.unsubscribe()
            raise
        async with asyncio.timeout(FLUSH_TIMEOUT_S):
            await held.drain()  # type: ignore[no-untyped-call]  # nats-py types all but this
