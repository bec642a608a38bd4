"""The keeper of embedded servers: one that dies is started again where it was, on its port and over its data."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

from headrace.clock import Clock
from headrace.dev.supervisor import how_ended, last_said
from headrace.errors import HeadraceError, UnavailableError

AGAIN_FIRST_S: Final = 0.1
AGAIN_MAX_S: Final = 5.0
STEADY_S: Final = 10.0
"""A server that lived this long is no crash loop: its next restart is quick again."""
STARTS_MAX: Final = 6
"""A server that ends this often without ever living `STEADY_S` is given up."""


class Server(Protocol):
    """An embedded server that was started: `wait` blocks until it ends, `start` takes its port and data again."""

    @property
    def log_file(self) -> Path:
        """Give the file that the server writes its log to."""
        ...

    def start(self) -> object:
        """Start; raises HeadraceError."""
        ...

    def wait(self) -> int:
        """Wait for the end, and give the exit code."""
        ...

    def stop(self) -> None:
        """Stop in order, and wait."""
        ...


class Keeper:
    """Keeps running servers running until `stop`."""

    def __init__(self, servers: Mapping[str, Server], clock: Clock, say: Callable[[str], None]) -> None:
        self._servers, self._clock, self._say = servers, clock, say
        self._turn = threading.Lock()
        """Held while a server starts or stops: after `stop` nothing starts any more."""
        self._stopping = False
        self._threads = ThreadPoolExecutor(max(1, len(servers)), thread_name_prefix="keeper")

    async def keep(self, name: str) -> None:
        """Keep one running server running; raises UnavailableError with the server's last words in a crash loop."""
        server, quick_ends = self._servers[name], 0
        began = self._clock.monotonic()
        while not self._stopping:
            told = how_ended(await asyncio.get_running_loop().run_in_executor(self._threads, server.wait))
            while not self._stopping:
                quick_ends = 0 if self._clock.monotonic() - began > STEADY_S else quick_ends + 1
                self._refuse_crash_loop(name, quick_ends)
                pause = min(AGAIN_FIRST_S * 2 ** max(0, quick_ends - 1), AGAIN_MAX_S)
                self._say(f"{name} ended ({told}); starting it again in {pause:g} s (see {server.log_file})")
                await self._clock.sleep(pause)
                began = self._clock.monotonic()
                try:
                    await asyncio.to_thread(self._start, server)
                except HeadraceError as problem:
                    told = problem.message
                else:
                    break

    async def stop(self) -> None:
        """Stop all servers in order, the last first."""
        self._stopping = True
        for server in reversed(tuple(self._servers.values())):
            await asyncio.to_thread(self._end, server)
        await asyncio.to_thread(self._threads.shutdown)

    def _start(self, server: Server) -> None:
        with self._turn:
            if not self._stopping:
                server.stop()
                server.start()

    def _end(self, server: Server) -> None:
        with self._turn:
            server.stop()

    def _refuse_crash_loop(self, name: str, quick_ends: int) -> None:
        if quick_ends >= STARTS_MAX:
            log = self._servers[name].log_file
            message = f"{name} ended {quick_ends} times in a row: {last_said(log)} (see {log})"
            raise UnavailableError(message)
