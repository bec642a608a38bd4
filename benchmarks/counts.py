"""Where the counting tool leaves its lines, read as it grows: each byte once, so that looking costs the same all along."""

import asyncio
import time
from pathlib import Path
from typing import Final

LOOK_S: Final = 0.05
STALLED_S: Final = 90.0

Line = tuple[float, str, str]


class Counts:
    """What was performed: when, of which run, which step. `last` is the step after which a run is over."""

    def __init__(self, file: Path, last: str) -> None:
        self._file, self._last = file, last
        self._offset = 0
        self._rest = b""
        self.lines: list[Line] = []
        self.steps: set[tuple[str, str]] = set()
        """Steps that were performed, however often."""
        self.over: set[str] = set()
        """Runs of which the last step was performed."""
        self._grown = asyncio.Event()

    async def watch(self) -> None:
        """Read what is new, again and again, until cancelled."""
        while True:
            if self.look():
                grown, self._grown = self._grown, asyncio.Event()
                grown.set()
            await asyncio.sleep(LOOK_S)

    def look(self) -> int:
        """Read what is new; gives how many bytes that were."""
        if not self._file.is_file():
            return 0
        with self._file.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        self._offset += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        for line in whole:
            at, run, step = line.decode().split()
            self.lines.append((float(at), run, step))
            self.steps.add((run, step))
            if step == self._last:
                self.over.add(run)
        return len(new)

    async def grown(self) -> None:
        """Wait until more was performed."""
        await self._grown.wait()

    async def until(self, steps: int) -> None:
        """Wait until so many steps were performed; raises AssertionError when none is for long."""
        while len(self.steps) < steps:
            done, began = len(self.steps), time.perf_counter()
            try:
                async with asyncio.timeout(STALLED_S):
                    while len(self.steps) == done:
                        await self.grown()
            except TimeoutError:
                waited = time.perf_counter() - began
                message = f"{done} of {steps} steps were performed, and no more are for {waited:.0f} s"
                raise AssertionError(message) from None
