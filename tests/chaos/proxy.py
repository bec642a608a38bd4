"""A TCP proxy between one service and one server, that breaks the link in every way a network can."""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Final

CHUNK_BYTES: Final = 64 * 1024
CONNECT_S: Final = 2.0
RESET_BY_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends RST instead of FIN."""
POSTGRES_READY: Final = b"Z\x00\x00\x00\x05I"
"""ReadyForQuery, outside of any transaction: what was asked for is committed."""
APPEND_MARKS: Final = (
    b"run.queued",
    b"step.succeeded",
    b"steps.succeeded",
    b"write.claimed",
    b"attempt.failed",
    b"approval.",
    b"run.started",
)
"""Names of events: a question that carries one of them is an append."""


class Way(StrEnum):
    """A direction of a link."""

    UP = "up"
    """From the service to the server."""
    DOWN = "down"


class Pair:
    """One connection through a link."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.asks_append = False

    def reset(self) -> None:
        """End both sides at once, with RST."""
        for writer in (self.client, self.server):
            plain = writer.get_extra_info("socket")
            if plain is not None and not writer.is_closing():
                with suppress(OSError, ValueError):  # it is gone already
                    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_BY_CLOSE)
            writer.transport.abort()


class Link:
    """One service's way to one server. What is wrong with it is set from outside, and `heal` sets it right."""

    def __init__(self, name: str, upstream: Callable[[], int]) -> None:
        self.name = name
        self.port = 0
        self.carried = 0
        self._upstream = upstream
        self._pairs: set[Pair] = set()
        self.ready, self._closed, self._entered = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._open = {way: asyncio.Event() for way in Way}
        self._refusing = False
        self._delay_s = 0.0
        self._bytes_per_s = 0.0
        self._reset_after: int | None = None
        self._lose_answer: asyncio.Event | None = None
        self.heal()

    async def serve(self) -> None:
        """Carry connections until `close`."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        try:
            await self._closed.wait()
        finally:
            server.close()
            self.cut()

    def close(self) -> None:
        """Serve no longer."""
        self._closed.set()

    @property
    def connections(self) -> int:
        """Give how many connections go through it now."""
        return len(self._pairs)

    async def used(self) -> None:
        """Wait until at least one connection goes through it."""
        while not self._pairs:
            self._entered.clear()
            await self._entered.wait()

    def heal(self) -> None:
        """Carry everything at once again."""
        self._refusing, self._delay_s, self._bytes_per_s, self._reset_after = False, 0.0, 0.0, None
        self._lose_answer = None
        for event in self._open.values():
            event.set()

    def cut(self) -> int:
        """Reset every connection, and give how many there were."""
        pairs = list(self._pairs)
        for pair in pairs:
            pair.reset()
        return len(pairs)

    def refuse(self) -> None:
        """Let nobody in, and reset those who are."""
        self._refusing = True
        self.cut()

    def hold(self, *ways: Way) -> None:
        """Carry nothing more that way, while both sides believe in their connection."""
        for way in ways:
            self._open[way].clear()

    def slow(self, delay_s: float, bytes_per_s: float = 0.0) -> None:
        """Carry everything late, and no more than so much a second (0: no limit)."""
        self._delay_s, self._bytes_per_s = delay_s, bytes_per_s

    def reset_after(self, count: int) -> None:
        """Reset the connection that brings this many more bytes down, in the middle of whatever it carries."""
        self._reset_after = count

    @property
    def resets_soon(self) -> bool:
        """Tell whether a reset that was ordered is still to come."""
        return self._reset_after is not None

    async def lose_answer(self, within_s: float) -> bool:
        """Let the next append reach Postgres and commit, and reset its connection before the answer leaves."""
        self._lose_answer = done = asyncio.Event()
        try:
            await asyncio.wait_for(done.wait(), within_s)
        except TimeoutError:
            return False
        finally:
            self._lose_answer = None
        return True

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            async with asyncio.timeout(CONNECT_S):
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream())
        except (OSError, TimeoutError):
            writer.transport.abort()
            return
        pair = Pair(writer, up_writer)
        self._pairs.add(pair)
        self._entered.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(pair, reader, up_writer, Way.UP))
                group.create_task(self._pump(pair, up_reader, writer, Way.DOWN))
        finally:
            self._pairs.discard(pair)
            pair.reset()

    async def _pump(self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        """Carry one direction until it ends; then the other side hears of the end."""
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if self._bytes_per_s:
                    await asyncio.sleep(len(chunk) / self._bytes_per_s)
                await self._open[way].wait()
                if self._breaks(pair, chunk, way):
                    pair.reset()
                    return
                self.carried += len(chunk)
                writer.write(chunk)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except (OSError, RuntimeError):  # uvloop says RuntimeError of a transport that is gone
            pair.reset()

    def _breaks(self, pair: Pair, chunk: bytes, way: Way) -> bool:
        """Tell whether the connection is to end instead of carrying this."""
        if way is Way.UP:
            pair.asks_append = pair.asks_append or any(mark in chunk for mark in APPEND_MARKS)
            return False
        if self._reset_after is not None:
            self._reset_after -= len(chunk)
            if self._reset_after < 0:
                self._reset_after = None
                return True
        answered = chunk.endswith(POSTGRES_READY)
        if self._lose_answer is not None and answered and pair.asks_append:
            self._lose_answer.set()
            self._lose_answer = None
            return True
        pair.asks_append = pair.asks_append and not answered
        return False
