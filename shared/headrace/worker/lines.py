"""Lines on their way to the api: gathered from any thread, sent in batches, never holding up a step."""

import asyncio
import logging
import threading
from collections import deque
from typing import Final, Protocol

from headrace.bus.port import Bus
from headrace.clock import Clock
from headrace.codec import encode
from headrace.errors import UnavailableError
from headrace.wire import Line

BATCH_S: Final = 0.05
BATCH_LINES_MAX: Final = 500
BATCH_BYTES_MAX: Final = 256 * 1024
BUFFERED_LINES_MAX: Final = 20_000
BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 5.0

log = logging.getLogger(__name__)


class LineSink(Protocol):
    """Where lines go."""

    def add(self, line: Line) -> None:
        """Take a line, from any thread, without waiting."""
        ...


class LineSender:
    """Sends lines in batches. While the bus is down the newest are kept; the gap shows in their sequence numbers."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._waiting: deque[Line] = deque()
        self._lock = threading.Lock()
        self._arrived = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.dropped_total = 0

    def add(self, line: Line) -> None:
        """Take a line, from any thread, without waiting."""
        with self._lock:
            self._waiting.append(line)
            first = len(self._waiting) == 1
            if len(self._waiting) > BUFFERED_LINES_MAX:
                self._waiting.popleft()
                self.dropped_total += 1
        if first and self._loop is not None:
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def run(self) -> None:
        """Send until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:
                self._arrived.clear()
                if not self._waiting:
                    await self._arrived.wait()
            await self._clock.sleep(BATCH_S)
            await self._flush()

    async def flush(self, seconds: float) -> None:
        """Send what is there once, for the end of the process; what cannot be sent in time is lost and said so."""
        try:
            async with asyncio.timeout(seconds):
                while self._waiting:
                    await self._send_batch()
        except (UnavailableError, TimeoutError) as problem:
            log.warning("%d lines were not sent: %s", len(self._waiting), str(problem) or "no answer in time")

    async def _flush(self) -> None:
        backoff_s = BACKOFF_FIRST_S
        while self._waiting:
            try:
                await self._send_batch()
                backoff_s = BACKOFF_FIRST_S
            except UnavailableError:
                await self._clock.sleep(backoff_s)
                backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)

    async def _send_batch(self) -> None:
        batch = self._take()
        try:
            await self._bus.publish_lines(b"[" + b",".join(body for _, body in batch) + b"]")
        except (UnavailableError, asyncio.CancelledError):
            with self._lock:
                self._waiting.extendleft(line for line, _ in reversed(batch))
            raise

    def _take(self) -> list[tuple[Line, bytes]]:
        taken: list[tuple[Line, bytes]] = []
        size = 0
        with self._lock:
            while self._waiting and len(taken) < BATCH_LINES_MAX and size < BATCH_BYTES_MAX:
                line = self._waiting.popleft()
                body = encode(line)
                taken.append((line, body))
                size += len(body)
        return taken
