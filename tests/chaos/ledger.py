"""The outside world of the chaos rounds, in a process of its own: it keeps every effect in a file, synced, by its key.

One request is one line of JSON, and so is its answer: `{"do": "try", "key": …}` counts the calls of a key,
`{"do": "act", …}` applies an effect (once a key, where `by_key` says that this outside knows keys) and writes it down.
"""

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Self

import msgspec

from headrace.clock import SystemClock
from headrace.testing.checker.history import Acted


class Ledger:
    """Keeps effects in a file of lines; what an earlier process wrote there still counts."""

    def __init__(self, file: Path) -> None:
        self._tried: Counter[str] = Counter()
        self._clock = SystemClock()
        self._applied = {one.key for one in read(file)}
        self._file = file.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Do what a line asks for."""
        key = str(asked["key"])
        if asked["do"] == "try":
            self._tried[key] += 1
            return {"tried": self._tried[key]}
        applied = not asked["by_key"] or key not in self._applied
        self._applied.add(key)
        acted = Acted(
            key=key,
            tool=asked["tool"],
            run_id=asked["run_id"],
            attempt_id=asked["attempt_id"],
            at=self._clock.now_ms(),
            applied=applied,
            by_key=asked["by_key"],
        )
        self._file.write(msgspec.json.encode(acted) + b"\n")
        os.fsync(self._file.fileno())
        return {"applied": applied}

    async def serve(self, port: int) -> None:
        """Answer callers until the process ends."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while line := await reader.readline():
                    writer.write(msgspec.json.encode(self.answer(msgspec.json.decode(line))) + b"\n")
                    await writer.drain()
            except ConnectionError:
                return
            finally:
                writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", port)
        async with server:
            await server.serve_forever()


def read(file: Path) -> list[Acted]:
    """Give every effect in a ledger's file."""
    if not file.is_file():
        return []
    return [msgspec.json.decode(line, type=Acted) for line in file.read_bytes().splitlines()]


if __name__ == "__main__":
    asyncio.run(Ledger(Path(sys.argv[2])).serve(int(sys.argv[1])))
