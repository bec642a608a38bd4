"""What simulated steps do, and the outside ledger on which those that act leave their mark."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from pydantic import BaseModel

from headrace.errors import StepError
from headrace.ports.tool import ToolContext
from headrace.testing.checker.history import Acted
from headrace.testing.simulation import rolls
from headrace.vocabulary import POOL_RUNNER

ACTING: Final = frozenset({"note", "strike", "pay", "undo", "ring"})
"""The tools that act on the ledger."""
LEAVING: Final = "note"
"""The tool that leaves an artifact, which says how often it was tried."""


class Given(BaseModel):
    """What a simulated tool is given: a value, how long it takes, and how many of its attempts fail first."""

    value: int = 0
    seconds: float = 0.0
    fails: int = 0


class Made(BaseModel):
    """What a simulated tool gives."""

    value: int


class Ledger:
    """The outside world: keeps every effect by its key, as an upstream that knows idempotency keys does."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.acted: list[Acted] = []
        self.tried: Counter[str] = Counter()
        """Attempts by idempotency key, of every tool."""
        self._now_ms = now_ms
        self._applied: set[str] = set()

    def act(self, tool: str, context: ToolContext, *, by_key: bool) -> None:
        """Do it; one that knows keys does it once a key."""
        key = context.idempotency_key
        applied = not by_key or key not in self._applied
        self._applied.add(key)
        self.acted.append(
            Acted(
                key=key,
                tool=tool,
                run_id=context.run_id,
                attempt_id=context.attempt_id,
                at=self._now_ms(),
                applied=applied,
                by_key=by_key,
            )
        )


class SimTool:
    """A tool of the simulation."""

    version, description = "1", "A tool of the simulation."
    access, pool = "auto", POOL_RUNNER
    input, output = Given, Made

    def __init__(
        self,
        name: str,
        effect: str,
        ledger: Ledger,
        *,
        idempotent: bool = True,
        access: str = "auto",
        rate_limit: str | None = None,
    ) -> None:
        self.name, self.effect, self.idempotent, self.access = name, effect, idempotent, access
        self.rate_limit = rate_limit
        self._ledger = ledger

    async def perform(self, context: ToolContext, input: Given) -> Made:
        """Take its time, fail as often as it should, act in the middle of it if that is its business."""
        tried = self._ledger.tried
        tried[context.idempotency_key] += 1
        await asyncio.sleep(input.seconds / 2)
        if tried[context.idempotency_key] <= input.fails:
            message = f"failed as asked for ({tried[context.idempotency_key]} of {input.fails})"
            raise StepError(message, type="upstream_error")
        if self.name in ACTING:
            self._ledger.act(self.name, context, by_key=self.idempotent)
        if self.name == LEAVING:
            context.artifact("note", f"note {input.value}", tried[context.idempotency_key])
        await asyncio.sleep(input.seconds / 2)
        if self.name == rolls.TOOL:
            return Made(value=rolls.rolled(input.value, tried[context.idempotency_key]))
        return Made(value=input.value + 1)


def tools(ledger: Ledger) -> list[Any]:
    """Give the tools of the simulation: reads and writes, by key and not, free and gated, and a limited notice."""
    return [
        SimTool("look", "read", ledger),
        SimTool(rolls.TOOL, "read", ledger),
        SimTool("note", "write", ledger),
        SimTool("strike", "write", ledger, idempotent=False),
        SimTool("pay", "write", ledger, access="gated"),
        SimTool("undo", "write", ledger),
        SimTool("ring", "notify", ledger, rate_limit="3/4s"),
    ]
