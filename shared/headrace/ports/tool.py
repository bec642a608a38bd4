"""The Tool port: something that can be performed, with typed input and output and a stated effect.

An example, whole:

    class Greet:
        name, version, effect, access, idempotent, pool = "greet", "1", "read", "auto", True, "runner"
        description = "Says hello."
        input, output = GreetInput, GreetOutput          # pydantic models

        async def perform(self, context: ToolContext, input: GreetInput) -> GreetOutput:
            context.log(f"greeting {input.name}")
            return GreetOutput(text=f"Hello {input.name}")

Tools are found by the entry point group `headrace.tools` (a callable that gives tools) or made with `@headrace.tool`.
`perform` is called in `headrace.worker.tool_runner` and nowhere else. It may raise StepError with a type of
VOCABULARY; anything else becomes `tool_error` without a traceback. A plain function may be synchronous: it then runs
in a thread. A tool may have a `rate_limit` such as "100/1m": so many attempts of it begin in that time, over all runs.
"""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel


class ToolContext(Protocol):
    """What a tool may use while it is performed."""

    attempt_id: str
    run_id: str
    workspace: str
    idempotency_key: str
    """The same on every attempt of a step: hand it to the outside, so that a repeat is recognised there."""
    root: Path
    """The file root of the workspace; tools touch nothing outside it."""
    settings: dict[str, Any]
    """Settings of the step's connection; secrets stand in `secrets`."""
    secrets: dict[str, str]
    evidence: dict[str, Any]
    """What a gate judges: recorded artifacts, step outputs, trigger and variables."""

    @property
    def cancelled(self) -> bool:
        """Tell whether the attempt was asked to stop."""
        ...

    def log(self, text: str, *, level: str = "info", stream: str = "log") -> None:
        """Print a line: it is streamed, kept with the run, and never an event."""
        ...

    def progress(self, done: float, message: str = "") -> None:
        """Say how far it is, 0 to 1."""
        ...

    def artifact(self, type: str, label: str, value: Any, *, body: bytes | None = None, media_type: str = "") -> None:
        """Keep an output; `body` is its content, stored by digest when it is large."""
        ...

    def source(self, name: str, *, complete: bool = True, calls: int = 1, next_cursor: str | None = None) -> None:
        """Say where the result came from, which becomes its evidence."""
        ...


@runtime_checkable
class Tool(Protocol):
    """Something that can be performed."""

    name: str
    version: str
    description: str
    input: type[BaseModel]
    output: type[BaseModel]
    effect: str
    access: str
    idempotent: bool
    pool: str

    async def perform(self, context: ToolContext, input: Any) -> Any:
        """Do it, and give an instance of `output` (or a dict of its shape)."""
        ...
