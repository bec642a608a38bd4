"""What the tour needs: a decorator that lets a test run in virtual time, and a few small tools."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any

from pydantic import BaseModel

from headrace.errors import StepError
from headrace.ports.tool import ToolContext
from headrace.testing import virtual


class Greeting(BaseModel):
    name: str


class Greeted(BaseModel):
    text: str


class Greet:
    """A tool of one's own: typed in, typed out, with its effect stated."""

    name, version, description = "greet", "1", "Says hello."
    effect, access, idempotent, pool = "read", "auto", True, "test"
    input, output = Greeting, Greeted

    async def perform(self, context: ToolContext, input: Greeting) -> Greeted:
        context.log(f"greeting {input.name}")
        return Greeted(text=f"Hello {input.name}")


class Flaky(Greet):
    """A tool that fails the first times it is asked."""

    name = "flaky"

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    async def perform(self, context: ToolContext, input: Greeting) -> Greeted:
        self.calls += 1
        if self.calls <= self.failures:
            message = "the line is busy"
            raise StepError(message, type="upstream_error")
        return await super().perform(context, input)


class Send(Greet):
    """A tool that changes the world: gated, so that somebody must agree first."""

    name, effect, access, idempotent = "send", "write", "gated", False

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def perform(self, context: ToolContext, input: Greeting) -> Greeted:
        self.sent.append(input.name)
        return await super().perform(context, input)


def workflow(name: str, *steps: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "headrace/v1",
        "kind": "Workflow",
        "metadata": {"name": name},
        "spec": {"steps": list(steps), **spec},
    }


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test of the tour on a loop whose time jumps."""

    @functools.wraps(test)
    def run() -> None:
        virtual.run(test())

    return run
