"""The supervisor: one leashed process a service, started again when it dies, stopped in order."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from headrace.clock import Clock
from headrace.dev.children import Program
from headrace.dev.leash import Leash
from headrace.errors import NotFoundError

STOP_S: Final = 8.0
STOP: Final = ((signal.SIGTERM, STOP_S), (signal.SIGKILL, 5.0))
AGAIN_FIRST_S: Final = 0.1
AGAIN_MAX_S: Final = 10.0
STEADY_S: Final = 10.0
"""A process that lived this long is no crash loop: it is started again at once."""
PROGRAMS_MAX: Final = 32
LAST_BYTES: Final = 4_096
"""How much of a log's end is read for its last line."""


class Supervisor:
    """Keeps programs running until it is told to stop."""

    def __init__(self, logs: Path, clock: Clock, say: Callable[[str], None]) -> None:
        self._logs, self._clock, self._say = logs, clock, say
        self._leashes: dict[str, Leash] = {}
        self._stopping: set[str] = set()
        self._ended: dict[str, asyncio.Event] = {}
        self._threads = ThreadPoolExecutor(PROGRAMS_MAX, thread_name_prefix="leash")
        self.restarts: dict[str, int] = {}

    def pid(self, name: str) -> int:
        """Give the process id of a running program; raises NotFoundError."""
        leash = self._leashes.get(name)
        if leash is None or not leash.running:
            message = f"no {name!r} is running"
            raise NotFoundError(message)
        return leash.pid

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a program a signal, as an operator would, and give the process id it went to."""
        pid = self.pid(name)
        self._leashes[name].send(number)
        return pid

    async def keep(self, program: Program) -> None:
        """Keep a program running until `stop` names it; starts it again, at once if it ran long, else with a growing pause."""
        pause = 0.0
        self._ended[program.name] = asyncio.Event()
        try:
            while program.name not in self._stopping:
                began = self._clock.monotonic()
                code = await self._once(program)
                if program.name in self._stopping:
                    return
                pause = 0.0 if self._clock.monotonic() - began > STEADY_S else max(pause, AGAIN_FIRST_S)
                self.restarts[program.name] = self.restarts.get(program.name, 0) + 1
                log = self._log_of(program.name)
                self._say(f"{program.name} ended ({how_ended(code)}); starting it again in {pause:g} s (see {log})")
                await self._clock.sleep(pause)
                pause = min(pause * 2, AGAIN_MAX_S)
        finally:
            self._ended[program.name].set()

    async def stop(self, order: Sequence[Iterable[str]]) -> None:
        """Stop programs, one group after the other, and wait for each group to end."""
        for group in order:
            names = [name for name in group if name in self._ended]
            self._stopping.update(names)
            for name in names:
                leash = self._leashes.get(name)
                if leash is not None:
                    leash.let_go()
            for name in names:
                await self._ended[name].wait()

    def close(self) -> None:
        """Let go of every program at once; the leashes end what still runs."""
        for leash in self._leashes.values():
            leash.let_go()
        self._threads.shutdown(wait=True)

    async def _once(self, program: Program) -> int:
        with self._log_of(program.name).open("ab") as output:
            leash = Leash(program.command, env=program.env, output=output, stop=STOP)
        self._leashes[program.name] = leash
        code = await asyncio.get_running_loop().run_in_executor(self._threads, leash.wait)
        leash.let_go()
        return code

    def _log_of(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def how_ended(code: int) -> str:
    """Say how a process ended that was on a leash."""
    died_of = code - 128
    if died_of in set(signal.Signals):
        return signal.Signals(died_of).name
    return f"exit code {code}"


def last_said(log: Path) -> str:
    """Give the last line of a log, or say that there is none."""
    with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
        if lines:
            return lines[-1]
    return "it said nothing"
