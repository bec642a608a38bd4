"""Presence and control on a connection of their own: a worker's beats do not depend on the loop that its tools share."""

from collections.abc import Callable

from nats.aio.msg import Msg

from headrace.bus.connection import Connection
from headrace.bus.listening import Listening
from headrace.bus.subjects import Names


class JetStreamBeside:
    """A second connection of a bus; everything is called on the loop on which it was opened."""

    def __init__(self, connection: Connection, names: Names) -> None:
        self._connection = connection
        self._names = names

    @property
    def connected(self) -> bool:
        """Tell whether the server answers now."""
        return self._connection.connected

    async def open(self) -> None:
        """Begin to connect, and go on for ever; what is said meanwhile is dropped."""
        await self._connection.open()

    async def close(self) -> None:
        """Flush, then let go of the connection."""
        await self._connection.close()

    def publish_presence(self, data: bytes) -> None:
        """Say that this worker lives, without waiting."""
        self._connection.send(self._names.presence, data)

    async def open_control(self, deliver: Callable[[bytes], None]) -> Listening:
        """Receive what is told to every process, as soon as there is a connection; raises UnavailableError."""

        def hear(message: Msg) -> None:
            deliver(message.data)

        return await self._connection.listen(self._names.control, hear)
