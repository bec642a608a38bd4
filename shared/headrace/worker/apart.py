"""Presence apart: beats, control and the watchdog on a thread of their own, with a connection and a loop of their own.

A tool that blocks its worker's event loop must not make the worker look dead. So the thread shares nothing with that
loop but what may be read at any time (`Holdings`, the registry's numbers), and tells it things by queueing them there.
What holds the interpreter's lock itself (an extension that never lets go) silences the thread too: that worker is lost.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from headrace.bus.port import Beside
from headrace.wire import EndChain, Interrupt
from headrace.worker.presence import Listener, Presence, Way
from headrace.worker.threads import in_thread
from headrace.worker.watchdog import Watchdog


class Across:
    """Hands what is heard on the thread to the worker's loop; `heed` is called at once, on the thread."""

    def __init__(self, listener: Listener, heed: Callable[[str], None]) -> None:
        self._listener, self._heed = listener, heed
        self._loop = asyncio.get_running_loop()

    def interrupt(self, interrupt: Interrupt) -> None:
        """Stop an attempt; a tool that looks whether it is cancelled sees it even while its loop is blocked."""
        self._heed(interrupt.attempt_id)
        self._queue(lambda: self._listener.interrupt(interrupt))

    def unchain(self, end: EndChain) -> None:
        """Let a chain end with what is performed now."""
        self._queue(lambda: self._listener.unchain(end))

    def drain(self, *, resume: bool) -> None:
        """Take no more work, or take it again."""
        self._queue(lambda: self._listener.drain(resume=resume))

    def reconnected(self) -> None:
        """Say again what the bus may have forgotten."""
        self._queue(self._listener.reconnected)

    def _queue(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: the worker has ended
            self._loop.call_soon_threadsafe(call)


class Apart:
    """Runs a worker's presence in a thread. Make it and await `run` on the worker's loop."""

    def __init__(self, beside: Beside, make: Callable[[Way], Presence], watchdog: Watchdog) -> None:
        self._beside, self._make, self._watchdog = beside, make, watchdog
        self._presence: Presence | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends = asyncio.Event()
        self._ending = False

    def beat_now(self) -> None:
        """Beat at once; from any thread."""
        self._queue(lambda: self._presence.beat_now() if self._presence is not None else None)

    def leave(self) -> None:
        """Say the last word, and end the thread."""
        self._ending = True
        self._queue(self._ends.set)

    async def run(self) -> None:
        """Serve until `leave`, or until cancelled; raises what the thread failed with."""
        try:
            await in_thread(lambda: asyncio.run(self._live()), "presence")
        finally:
            self.leave()

    async def _live(self) -> None:
        """The life of the thread."""
        self._loop = asyncio.get_running_loop()
        await self._beside.open()
        try:
            presence = self._presence = self._make(self._beside)
            if self._ending:
                return
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(presence.run()), group.create_task(self._watchdog.run())]
                await self._ends.wait()
                presence.leave()
                for task in tasks:
                    task.cancel()
        finally:
            await self._beside.close()

    def _queue(self, call: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the thread has ended
                loop.call_soon_threadsafe(call)
