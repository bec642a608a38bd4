"""Stubs: tools with the real manifests of the installed ones that give what is supposed, and perform nothing.

The performer of a tool is left behind when its stub is made: a stub holds its name, schemas and effect alone. Gates are
the exception: they are pure functions of what is recorded, so the real one judges, unless a verdict is supposed.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import msgspec
from pydantic import BaseModel
from pydantic import ValidationError as PydanticError

from headrace.config import Config
from headrace.errors import StepError, ValidationError
from headrace.events.catalogue import ToolManifest
from headrace.keys import Keys
from headrace.ports.tool import Tool
from headrace.specs.rates import written
from headrace.specs.samples import sample
from headrace.testing.prediction.scenario import FAIL, STUBS, Scenario, chosen
from headrace.testing.processes import installed, offering
from headrace.vocabulary import Outcome
from headrace.worker.adapter import OpenObject
from headrace.worker.registry import Registry

GROUPS: Final = ("headrace.tools", "headrace.integrations", "headrace.gates")
GATE: Final = "gate"
COMPUTED: Final = frozenset({"gate.expression", "gate.custom"})
"""Gates that read results alone; the others read what tools keep, which stubs do not."""
SOURCE: Final = "simulation"
ROUND: Final = re.compile(r":[^:#]*#(\d+)(?:\[\d+\])?$")
"""Where the idempotency key of a call says which round of a loop it is made in."""


class Call(msgspec.Struct, kw_only=True):
    """One call of a stub: what would have been performed, with which arguments. `made_up`: nobody supposed its result."""

    run_id: str
    step: str
    index: int | None
    iteration: int
    attempt: int
    attempt_id: str
    tool: str
    effect: str
    access: str
    arguments: dict[str, Any]
    made_up: bool = False
    error: str | None = None


class Runs(Protocol):
    """The runs whose steps call: where each hangs."""

    def path_of(self, run_id: str) -> str:
        """Give the way to a run."""
        ...


class Book:
    """What the stubs of one simulation were called with, and what they give."""

    def __init__(self, scenario: Scenario, runs: Callable[[], Runs]) -> None:
        self._scenario, self._runs = scenario, runs
        self.calls: list[Call] = []

    def call(self, stub: "Stub", context: Any, given: BaseModel) -> Call:
        """Note a call; its key names the round of a loop that it belongs to."""
        round_ = ROUND.search(context.idempotency_key)
        call = Call(
            run_id=context.run_id,
            step=context.step,
            index=context.index,
            iteration=int(round_[1]) if round_ else 0,
            attempt=context.attempt,
            attempt_id=context.attempt_id,
            tool=stub.name,
            effect=stub.effect,
            access=stub.access,
            arguments=given.model_dump(mode="json", exclude_unset=True),
        )
        self.calls.append(call)
        return call

    def failing(self, call: Call, failure: str = "") -> str:
        """Say how it is supposed that a call fails."""
        return self._scenario.named(FAIL, f"{self._runs().path_of(call.run_id)}{call.step}", failure)

    def unfit(self, name: str, message: str) -> ValidationError:
        """Make the error of a supposed result that is none."""
        return self._scenario.wrong(STUBS, name, message)

    def failure(self, call: Call) -> str | None:
        """Give the type of the error that a call is supposed to end with."""
        path = self._runs().path_of(call.run_id)
        return chosen(self._scenario.failures, path, call.step, call.index, call.iteration)

    def supposed(self, call: Call) -> Any:
        """Give what a call is supposed to give, None where nobody said."""
        return chosen(self._scenario.stubs, self._runs().path_of(call.run_id), call.step, call.index, call.iteration)

    def makes_up(self, run_id: str) -> bool:
        """Tell whether any result of a run is made up."""
        return any(call.made_up for call in self.calls if call.run_id == run_id)

    def result(self, call: Call, schema: Mapping[str, Any]) -> Any:
        """Give what a call is supposed to give, else a value that its schema allows; raises StepError for none."""
        given = self.supposed(call)
        if given is not None:
            return given
        path = self._runs().path_of(call.run_id)
        call.made_up = True
        place = f"{path}{call.step}/{call.iteration}/{call.index}"
        try:
            return sample(schema, place)
        except ValidationError as problem:
            given = self._scenario.named(STUBS, path + call.step, "JSON")
            message = f"give its result by {given}: {problem.message}"
            raise StepError(message, type="validation_error") from problem


class Stub:
    """A tool that stands in for another of the same manifest. Its `perform` asks the book, and nothing else."""

    def __init__(self, tool: Any, book: Book) -> None:
        self.name, self.version, self.description = tool.name, tool.version, tool.description
        self.effect, self.access, self.idempotent = str(tool.effect), str(tool.access), tool.idempotent
        self.pool, self.input, self.output = tool.pool, tool.input, tool.output
        self.kind = str(getattr(tool, "kind", "tool"))
        self.requires_connection = getattr(tool, "requires_connection", None)
        self.rate_limit = getattr(tool, "rate_limit", None)
        self._judge = tool.perform if self.kind == GATE and not isinstance(tool, Remote) else None
        self._schema = tool.output.model_json_schema(mode="serialization")
        self._book = book

    async def perform(self, context: Any, input: BaseModel) -> Any:
        """Give what is supposed; raises StepError where a failure is."""
        call = self._book.call(self, context, input)
        context.source(SOURCE)
        failure = self._book.failure(call)
        if failure is not None and self.kind != GATE:
            call.error = failure
            message = f"supposed to fail ({self._book.failing(call, failure)})"
            raise StepError(message, type=failure)
        if failure is not None:
            return {"outcome": Outcome.FAILED, "message": f"supposed to fail ({self._book.failing(call)})"}
        if self.kind == GATE and self._book.supposed(call) is None:
            return await self._verdict(call, context, input)
        return self._book.result(call, self._schema)

    async def _verdict(self, call: Call, context: Any, input: BaseModel) -> Any:
        """Let the real gate judge. What it misses in results that are made up, or were never performed, is no failure."""
        if self._judge is not None:
            verdict = await self._judge(context, input)
            told = self.name in COMPUTED and not self._book.makes_up(call.run_id)
            if verdict["outcome"] == Outcome.PASSED or told:
                return verdict
        call.made_up = True
        return {"outcome": Outcome.PASSED, "message": "supposed to pass: what it would judge is not there"}

    def fits(self, name: str, value: Any) -> None:
        """Raise ValidationError when a supposed result is none that the tool could give."""
        try:
            self.output.model_validate(value)
        except PydanticError as problem:
            wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in problem.errors())
            raise self._book.unfit(name, f"{self.name} gives no such result: {wrong}") from problem


class Remote:
    """A tool that another machine offers, known by its manifest alone."""

    def __init__(self, manifest: ToolManifest) -> None:
        self.name, self.version, self.description = manifest.name, manifest.version, manifest.description
        self.effect, self.access, self.idempotent = manifest.effect, manifest.access, manifest.idempotent
        self.pool, self.kind, self.requires_connection = manifest.pool, manifest.kind, manifest.requires_connection
        self.rate_limit = written(manifest.rate_limit) if manifest.rate_limit else None
        self.input, self.output = _known_by(manifest.input_schema), _known_by(manifest.output_schema)


def _known_by(schema: dict[str, Any]) -> type[BaseModel]:
    """Make a model that says it has a schema, and takes any object."""

    class Known(OpenObject):
        said: ClassVar[dict[str, Any]] = schema

        @classmethod
        def model_json_schema(cls, *_how: Any, **_more: Any) -> dict[str, Any]:
            return cls.said

    return Known


def tools_here(own: Sequence[Tool] = ()) -> dict[str, Tool]:
    """Give every tool that is installed here, by name: of the services, of plug-ins, and one's own. None is performed."""
    config = Config(file_root=Path("/"), keys=Keys(master=bytes(32)))
    registries = [Registry(own), *(Registry(installed(name).tools(config)) for name in offering("tools"))]
    for group in GROUPS:
        plugins = Registry()
        plugins.load(group)
        registries.append(plugins)
    found: dict[str, Tool] = {}
    for record in (record for registry in registries for record in registry.records()):
        found.setdefault(record.manifest.name, record.tool)
    return found


def stubs(tools: Iterable[Any], book: Book) -> list[Stub]:
    """Give a stub for each tool."""
    return [Stub(tool, book) for tool in tools]
