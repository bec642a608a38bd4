"""The tools of the chaos rounds, as a plug-in of the runner: those of the simulation, over a ledger that is outside.

They are installed the way users install theirs: by a distribution with an entry point of `headrace.tools`, which the
stand writes into a folder of its own.
"""

import asyncio
import os
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace.errors import StepError
from headrace.ports.tool import ToolContext
from headrace.testing.simulation import tools as simulation
from headrace.testing.simulation.tools import ACTING, Given, Made, SimTool

PORT: Final = "CHAOS_LEDGER_PORT"
ASK_S: Final = 20.0
METADATA: Final = "Metadata-Version: 2.1\nName: headrace-chaos-tools\nVersion: 1\n"
ENTRY_POINTS: Final = "[headrace.tools]\nchaos = tests.chaos.tools:tools\n"


class ChaosTool:
    """A tool that takes its time, fails as often as it was told to, and acts on the ledger if that is its business."""

    version, description = "1", "A tool of the chaos rounds."
    pool, input, output = SimTool.pool, Given, Made

    def __init__(self, like: SimTool) -> None:
        self.name, self.effect, self.idempotent, self.access = like.name, like.effect, like.idempotent, like.access
        self.rate_limit = like.rate_limit

    async def perform(self, context: ToolContext, input: Given) -> Made:
        """Do it."""
        key = context.idempotency_key
        context.log(f"{self.name} {input.value}")
        tried = (await _ask({"do": "try", "key": key}))["tried"] if input.fails else 1
        await asyncio.sleep(input.seconds / 2)
        if tried <= input.fails:
            message = f"failed as asked for ({tried} of {input.fails})"
            raise StepError(message, type="upstream_error")
        if self.name in ACTING:
            told = {"tool": self.name, "run_id": context.run_id, "attempt_id": context.attempt_id}
            await _ask({"do": "act", "key": key, "by_key": self.idempotent, **told})
        await asyncio.sleep(input.seconds / 2)
        return Made(value=input.value + 1)


async def _ask(question: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(ASK_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ[PORT]))
        try:
            writer.write(msgspec.json.encode(question) + b"\n")
            answer: dict[str, Any] = msgspec.json.decode(await reader.readline())
            return answer
        finally:
            writer.close()


def tools() -> list[ChaosTool]:
    """Give the simulation's tools, over the ledger outside."""
    return [ChaosTool(like) for like in simulation.tools(simulation.Ledger(lambda: 0))]


def install(folder: Path) -> Path:
    """Write the distribution that brings these tools, and give the folder to be put on the path."""
    info = folder / "headrace_chaos_tools-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder
