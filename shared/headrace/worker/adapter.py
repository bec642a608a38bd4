"""Adapters: what is not written against the Tool port but can be performed like one.

- a plug-in with plain `run(payload: dict) -> dict` (the older form)
- a gate, as the tool `gate.<name>` of the pool `gates`
- an integration, as its operations
"""

import inspect
from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, create_model
from pydantic import ValidationError as PydanticError

from headrace.errors import StepError, ValidationError
from headrace.ports.gate import Gate
from headrace.ports.integration import Integration
from headrace.ports.tool import Tool, ToolContext
from headrace.specs.rates import SETTING
from headrace.vocabulary import POOL_GATES, POOL_INTEGRATIONS, POOL_RUNNER, Access, Effect, Outcome

TOOL_PARTS: Final = ("name", "version", "description", "input", "output", "effect", "access", "pool", "perform")


def _not_empty(value: Any) -> Any:
    if value is None or value in ("", [], {}):
        message = "must not be empty"
        raise ValueError(message)
    return value


NotEmpty = Annotated[Any, AfterValidator(_not_empty)]


class OpenObject(BaseModel):
    """Any JSON object."""

    model_config = ConfigDict(extra="allow")


class VerdictOutput(BaseModel):
    """A gate's verdict as a result."""

    outcome: Outcome
    message: str = ""
    evidence: dict[str, Any] = {}


def adapt(plugin: Any) -> Tool:
    """Give a plug-in as a tool; raises ValidationError that says what it lacks."""
    if isinstance(plugin, type):
        plugin = plugin()
    missing = [part for part in TOOL_PARTS if not hasattr(plugin, part)]
    if not missing:
        tool: Tool = plugin
        return tool
    if callable(getattr(plugin, "evaluate", None)):
        return GateTool(plugin)
    if callable(getattr(plugin, "run", None)):
        return RunTool(plugin)
    name = getattr(plugin, "name", type(plugin).__name__)
    message = f"{name!r} is no tool: it lacks {', '.join(missing)}, and it has no run(payload)"
    raise ValidationError(message)


def offered(loaded: Any) -> Iterable[Any]:
    """Give the plug-ins that an entry point offers: itself, or what it gives when called; an integration's operations."""
    if inspect.isfunction(loaded) and not hasattr(loaded, "perform"):
        loaded = loaded()
    for plugin in loaded if isinstance(loaded, Iterable) and not isinstance(loaded, type) else [loaded]:
        made = plugin() if isinstance(plugin, type) else plugin
        yield from operations(made) if callable(getattr(made, "operations", None)) else [made]


class RunTool:
    """A plug-in with `run(payload: dict) -> dict`, synchronous or not.

    It may say more by attributes: version, description, effect (default write, so gated), access, idempotent, pool,
    input and output (pydantic models), or `required_inputs`, names that must be given and not be empty.
    """

    def __init__(self, plugin: Any) -> None:
        name = getattr(plugin, "name", None)
        if not isinstance(name, str) or not name:
            message = f"{type(plugin).__name__} has run(payload) but no name"
            raise ValidationError(message)
        self._plugin = plugin
        self.name = name
        self.version = str(getattr(plugin, "version", "1"))
        self.description = str(getattr(plugin, "description", "") or inspect.getdoc(plugin) or "")
        self.effect = str(getattr(plugin, "effect", Effect.WRITE))
        self.access = str(getattr(plugin, "access", default_access(self.effect)))
        self.idempotent = bool(getattr(plugin, "idempotent", self.effect == Effect.READ))
        self.pool = str(getattr(plugin, "pool", POOL_RUNNER))
        self.input: type[BaseModel] = getattr(plugin, "input", None) or _required(
            getattr(plugin, "required_inputs", ())
        )
        self.output: type[BaseModel] = getattr(plugin, "output", None) or OpenObject

    @property
    def perform(self) -> Any:
        """Give the function that does it: synchronous when the plug-in's is, so that it gets a thread."""
        return self._awaited if inspect.iscoroutinefunction(self._plugin.run) else self._called

    def _called(self, context: ToolContext, input: BaseModel) -> Any:
        context.source(self.name)
        return self._plugin.run(input.model_dump(mode="json"))

    async def _awaited(self, context: ToolContext, input: BaseModel) -> Any:
        context.source(self.name)
        return await self._plugin.run(input.model_dump(mode="json"))


class GateTool:
    """A gate as the tool `gate.<name>`: arguments are the gate's config, evidence stands in the context."""

    kind = "gate"
    pool: str = POOL_GATES
    effect: str = Effect.READ
    access: str = Access.AUTO
    idempotent = True

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.name = f"gate.{gate.name}"
        self.version = gate.version
        self.description = inspect.getdoc(gate) or f"The gate {gate.name}."
        self.input: type[BaseModel] = gate.config
        self.output: type[BaseModel] = VerdictOutput

    async def perform(self, context: ToolContext, input: BaseModel) -> dict[str, Any]:
        """Judge the evidence; an exception of the gate becomes the outcome `error`, which never passes."""
        context.source("log")
        try:
            verdict = self._gate.evaluate(context.evidence, input)
        except Exception as problem:  # noqa: BLE001  (a gate may raise anything; it must not pass by that)
            context.log(f"{self.name} raised {type(problem).__name__}: {problem}", level="error")
            return {"outcome": Outcome.ERROR, "message": f"{type(problem).__name__}: {problem}", "evidence": {}}
        shown = msgspec.to_builtins(verdict)
        return {"message": "", "evidence": {}, **shown}


class OperationTool:
    """An operation of an integration: its own tool, which says which connection it needs and checks its settings."""

    kind = "integration"

    def __init__(self, integration: Integration, operation: Tool) -> None:
        prefix = f"{integration.name}."
        if not operation.name.startswith(prefix):
            message = f"operation {operation.name!r} must be named {prefix}<operation>"
            raise ValidationError(message)
        self._operation = operation
        self._integration = integration
        self.name, self.version, self.description = operation.name, operation.version, operation.description
        self.input, self.output = operation.input, operation.output
        self.effect, self.access, self.idempotent = operation.effect, operation.access, operation.idempotent
        self.pool = POOL_INTEGRATIONS
        self.requires_connection = integration.name
        self.rate_limit = getattr(operation, "rate_limit", None)

    def check_connection(self, settings: dict[str, Any], secrets: dict[str, str]) -> dict[str, Any]:
        """Give the checked settings; raises StepError (integration_auth_error) for what the connection lacks."""
        missing = [name for name in self._integration.secrets if not secrets.get(name)]
        if missing:
            message = f"the connection to {self._integration.name} brings no secret {', '.join(missing)}"
            raise StepError(message, type="integration_auth_error", plugin=self.name)
        try:
            own = {name: value for name, value in settings.items() if name != SETTING}  # the planner keeps to that one
            return self._integration.settings.model_validate(own).model_dump(mode="json")
        except PydanticError as problem:
            fields = ", ".join(".".join(map(str, error["loc"])) for error in problem.errors())
            message = f"settings of the connection to {self._integration.name} are wrong: {fields}"
            raise ValidationError(message) from problem

    @property
    def perform(self) -> Any:
        """Give the operation's own function."""
        return self._operation.perform


def operations(integration: Integration) -> list[Tool]:
    """Give an integration's operations as tools of the pool `integrations`."""
    return [OperationTool(integration, operation) for operation in integration.operations()]


def default_access(effect: str) -> str:
    """Give the access that follows from an effect: reads are auto, the others gated (VOCABULARY)."""
    return Access.AUTO if effect == Effect.READ else Access.GATED


def _required(names: Iterable[str]) -> type[BaseModel]:
    """Make the input model of a plug-in that only names its required inputs: each given, and none empty."""
    fields: dict[str, Any] = dict.fromkeys(names, (NotEmpty, ...))
    return create_model("Payload", __base__=OpenObject, **fields) if fields else OpenObject
