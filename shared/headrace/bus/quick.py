"""nats-py's client with a shorter way for what is busy: publishing, and hearing by functions that do not wait.

nats-py gives each subscription a queue and a task, wakes another task for each flush, and reads in a third; a message
then takes some turns of the loop on either side. Here what is published in one turn is written at its end, in one piece
(its first request at once: whoever sends it waits for nothing else), and a hearer is called while its message comes in:
whole messages for hearers are taken from what the socket gives before nats-py sees it. Everything else is nats-py's own:
the protocol, reconnecting, subscribing again.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.errors import StaleConnectionError
from nats.protocol.command import pub_cmd
from nats.protocol.parser import AWAITING_CONTROL_LINE

from headrace.clock import until_tick

logger = logging.getLogger(__name__)
UNDRAINED_BYTES_MAX: Final = 256 * 1024
"""How much is written before the transport is waited for, by nats-py's own flusher."""
MSG: Final = b"MSG "
"""How a message begins that has no headers: `MSG subject number [reply] bytes`, a line end, and the bytes."""
CRLF: Final = b"\r\n"
WORDS_WITH_REPLY: Final = 4
WEBSOCKETS: Final = ("ws", "wss")

Hear = Callable[[Msg], None]


async def connect(**options: Any) -> "QuickClient":
    """Connect, as `nats.connect` does with the same options."""
    client = QuickClient()
    await client.connect(**options)
    return client


class Transport(TcpTransport):
    """A socket that tells in asyncio's way that it is closed, which uvloop does by a RuntimeError.

    nats-py takes that one for a closed loop, or lets it end the task that connects again: then nobody ever would.
    """

    def write(self, payload: bytes) -> Any:
        """Write; raises ConnectionResetError when the socket is closed."""
        try:
            return super().write(payload)  # type: ignore[no-untyped-call]  # nats-py types no transport
        except RuntimeError as problem:
            raise ConnectionResetError(str(problem)) from problem

    def writelines(self, payload: list[bytes]) -> Any:
        """Write; raises ConnectionResetError when the socket is closed."""
        try:
            return super().writelines(payload)  # type: ignore[no-untyped-call]  # nor this
        except RuntimeError as problem:
            raise ConnectionResetError(str(problem)) from problem

    def __bool__(self) -> bool:
        """Say yes before it is connected too: else nats-py would put one of its own in this one's place."""
        return True


class QuickClient(Client):
    """A client of NATS. `post` publishes and `hear` subscribes the short way."""

    def __init__(self) -> None:
        super().__init__()
        self._hearers: dict[int, Hear] = {}
        self._planned = False
        self._hurried = False
        """Whether something was written at once in this turn of the loop."""
        self._undrained_bytes = 0
        self._draining: asyncio.Future[Any] | None = None

    @property
    def heard(self) -> int:
        """Count what came from the server: messages, and answers to pings."""
        return int(self.stats["in_msgs"]) + self._pongs_received

    @property
    def clustered(self) -> bool:
        """Tell whether the server that was connected to is one of a cluster."""
        return bool(self._server_info.get("cluster"))

    def post(self, subject: str, payload: bytes, reply: str = "", *, at_once: bool = False) -> None:
        """Publish at the end of this turn of the loop, or `at_once`; the caller has seen that there is a connection.

        Of several that are to go at once, in one turn, the first does, and the others go together at its end: a write
        for each costs more than they would wait for.
        """
        command = pub_cmd(subject, reply, payload)
        self._pending.append(command)
        self._pending_data_size += len(command)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        if at_once and not self._hurried:
            self._hurried = True
            asyncio.get_running_loop().call_soon(self._rest)
            self.push()
        else:
            self._plan()

    def push(self) -> None:
        """Write what was posted, now; what the transport has no room for follows at the end of this turn."""
        self._write()
        if self._pending:
            self._plan()

    async def hear(self, subject: str, hearer: Hear) -> Subscription:
        """Subscribe with a function that is called for each message as it is read; it must not block."""

        async def slowly(message: Msg) -> None:
            hearer(message)

        held = await self.subscribe(subject, cb=slowly)
        self._hearers[held._id] = hearer  # noqa: SLF001  (nats-py gives a subscription's number nowhere else)
        return held

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        hearer = self._hearers.get(sid)
        if hearer is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        if sid not in self._subs:
            del self._hearers[sid]
            return
        self._hand(hearer, subject, reply, data, await self._process_headers(headers) if headers else None)

    def _hand(
        self, hearer: Hear, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None = None
    ) -> None:
        """Call a hearer with a message."""
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        try:
            hearer(Msg(self, subject.decode(), reply.decode(), data, headers))
        except Exception:  # the connection must go on; nats-py has this boundary for its own callbacks
            logger.exception("a hearer of %s failed", subject.decode())

    async def _connect_to_server(self, s: Any) -> None:
        if self._transport is None and s.uri.scheme not in WEBSOCKETS:
            self._transport = Transport()  # type: ignore[no-untyped-call]  # nor its making
        await super()._connect_to_server(s)

    async def _process_connect_init(self) -> None:
        await super()._process_connect_init()
        if isinstance(self._transport, TcpTransport):
            own = vars(self._transport)  # nats-py gives its streams nowhere else
            self._shorten(own["_io_reader"], own["_io_writer"])

    def _shorten(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let what comes in go the short way first, and what is written go out at once."""
        slowly = reader.feed_data
        waiting: bytearray = vars(reader)["_buffer"]  # what was read and not yet taken by nats-py

        def feed(data: bytes) -> None:
            parser = self._ps
            if not waiting and not parser.buf and parser.state == AWAITING_CONTROL_LINE:
                data = data[self._taken(data) :]
            if data:
                slowly(data)

        reader.feed_data = feed  # type: ignore[assignment,method-assign]  # one object's alone; it is given bytes
        writer.transport.set_write_buffer_limits(high=0)  # uvloop waits for its turn's end below its limit

    def _taken(self, data: bytes) -> int:
        """Hand the whole messages at the beginning of `data` to their hearers; gives how many bytes these took."""
        place = 0
        while data.startswith(MSG, place):
            line_end = data.find(CRLF, place)
            if line_end < 0:
                break
            words = data[place + len(MSG) : line_end].split()
            begin, end = line_end + len(CRLF), line_end + len(CRLF) + int(words[-1])
            hearer = self._hearers.get(int(words[1]))
            if hearer is None or int(words[1]) not in self._subs or len(data) < end + len(CRLF):
                break
            self._hand(hearer, words[0], words[2] if len(words) == WORDS_WITH_REPLY else b"", data[begin:end])
            place = end + len(CRLF)
        return place

    async def _flush_pending(self, force_flush: bool = False) -> Any:  # noqa: FBT001, FBT002  (nats-py's own signature)
        if force_flush:
            return await super()._flush_pending(force_flush=True)
        self._plan()
        return None

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        self._write()  # so that its answer tells that all before it was handled
        await super()._send_ping(future)

    async def _process_pong(self) -> None:
        """Take an answer to a ping; who asked may have given up, over which nats-py would end the connection."""
        if self._pongs:
            future = self._pongs.pop(0)
            if not future.done():
                future.set_result(True)
            self._pongs_received += 1
            self._pings_outstanding = 0

    async def _ping_interval(self) -> None:
        """Ping when nothing was heard for an interval, as the server does too; nats-py pings in any case."""
        interval_s = self.options["ping_interval"]
        heard = -1
        while True:
            await asyncio.sleep(until_tick(asyncio.get_running_loop().time(), interval_s))
            if not self.is_connected:
                continue
            before, heard = heard, self.stats["in_msgs"]
            if heard != before:
                self._pings_outstanding = 0
                continue
            self._pings_outstanding += 1
            if self._pings_outstanding > self.options["max_outstanding_pings"]:
                await self._process_op_err(StaleConnectionError())
                return
            try:
                await self._send_ping()
            except OSError:
                return  # reading notices it too, connects again, and begins anew

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self._hearers.pop(sid, None)

    def _rest(self) -> None:
        self._hurried = False

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._write_planned)

    def _write_planned(self) -> None:
        self._planned = False
        self._write()

    def _write(self) -> None:
        """Write what is pending; now and then by nats-py's flusher, which waits until the transport has room."""
        if not self._pending or not self.is_connected or self._transport is None or self._flush_queue is None:
            return
        if self._draining is not None:
            return  # the flusher writes it
        if self._undrained_bytes >= UNDRAINED_BYTES_MAX:
            self._undrained_bytes = 0
            self._draining = asyncio.get_running_loop().create_future()
            self._draining.add_done_callback(self._drained)
            self._flush_queue.put_nowait(self._draining)
            return
        self._undrained_bytes += self._pending_data_size
        size, pending = self._pending_data_size, self._pending
        self._pending, self._pending_data_size = [], 0
        try:
            self._transport.write(b"".join(pending))
        except OSError as problem:  # the socket is closed, which nats-py is about to notice
            logger.info("what is published waits for the next connection: %s", problem)
            self._pending, self._pending_data_size = pending, size

    def _drained(self, _: object) -> None:
        self._draining = None
        self._plan()
