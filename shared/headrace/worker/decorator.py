"""`@headrace.tool`: a typed function as a tool.

    @headrace.tool
    def word_count(text: str, unique: bool = False) -> dict[str, int]:
        "Counts words."
        ...

Arguments become the input model, the return annotation the output model: a pydantic model stands as it is, a mapping
may hold anything, any other type is wrapped as `{"result": …}`. A parameter named `context` receives the ToolContext.
Unless told otherwise a tool only reads; a write or notify is gated, so that it needs an approval.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, get_origin, get_type_hints, is_typeddict, overload

from pydantic import BaseModel, ConfigDict, create_model

from headrace.errors import ValidationError
from headrace.ports.tool import ToolContext
from headrace.specs.rates import parse
from headrace.vocabulary import Effect
from headrace.worker.adapter import OpenObject, default_access

CONTEXT: Final = "context"
NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?")


class FunctionTool:
    """A function as a tool. Calling it calls the function, so that it stays testable as what it is."""

    kind = "tool"

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        version: str,
        effect: str,
        access: str,
        pool: str,
        idempotent: bool,
        rate_limit: str | None = None,
    ) -> None:
        if NAME.fullmatch(name) is None:
            message = f"tool name {name!r}: use lower-case letters, digits and _"
            raise ValidationError(message)
        self.function = function
        self.__name__ = name
        self.__doc__ = function.__doc__
        self.name, self.version, self.effect, self.access = name, version, effect, access
        self.pool, self.idempotent, self.rate_limit = pool, idempotent, rate_limit
        if rate_limit is not None:
            parse(rate_limit)
        self.description = inspect.getdoc(function) or ""
        self._asynchronous = inspect.iscoroutinefunction(function)
        self._takes_context = CONTEXT in inspect.signature(function).parameters
        self.input = _input_model(function, name)
        self.output, self._wraps = _output_model(function, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    @property
    def perform(self) -> Any:
        """Give the function that does it: synchronous when the decorated one is, so that it gets a thread."""
        return self._awaited if self._asynchronous else self._called

    def _called(self, context: ToolContext, input: BaseModel) -> Any:
        return self._given(self.function(**self._arguments(context, input)))

    async def _awaited(self, context: ToolContext, input: BaseModel) -> Any:
        return self._given(await self.function(**self._arguments(context, input)))

    def _arguments(self, context: ToolContext, input: BaseModel) -> dict[str, Any]:
        arguments = vars(input).copy()
        if self._takes_context:
            arguments[CONTEXT] = context
        return arguments

    def _given(self, result: Any) -> Any:
        return {"result": result} if self._wraps else result


@overload
def tool(function: Callable[..., Any], /) -> FunctionTool: ...


@overload
def tool(
    *,
    name: str | None = None,
    version: str = "1",
    effect: str = Effect.READ,
    access: str | None = None,
    pool: str | None = None,
    idempotent: bool | None = None,
    rate_limit: str | None = None,
) -> Callable[[Callable[..., Any]], FunctionTool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    version: str = "1",
    effect: str = Effect.READ,
    access: str | None = None,
    pool: str | None = None,
    idempotent: bool | None = None,
    rate_limit: str | None = None,
) -> Any:
    """Make a tool of a typed function; raises ValidationError when its signature cannot be one.

    `pool` is by default named after the function's module, so that only workers that have the tool take its work.
    `idempotent` says that a repeat under the same idempotency key does no harm; reads are by default.
    `rate_limit` such as `100/1m` says how many attempts may begin in a time, over all runs of the workspace.
    """

    def decorate(decorated: Callable[..., Any]) -> FunctionTool:
        return FunctionTool(
            decorated,
            name=name or decorated.__name__,
            version=version,
            effect=str(effect),
            access=str(access or default_access(effect)),
            pool=pool or pool_of(decorated.__module__),
            idempotent=effect == Effect.READ if idempotent is None else idempotent,
            rate_limit=rate_limit,
        )

    return decorate if function is None else decorate(function)


def pool_of(module: str) -> str:
    """Give the pool of a module's tools: its last name in letters, digits and _."""
    return re.sub(r"[^a-z0-9_]+", "_", module.rpartition(".")[2].lower()).strip("_") or "tools"


def _input_model(function: Callable[..., Any], name: str) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == CONTEXT:
            continue
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            message = f"tool {name!r}: {parameter} cannot be given by name; use plain parameters"
            raise ValidationError(message)
        if parameter.name not in hints:
            message = f"tool {name!r}: parameter {parameter.name!r} has no type annotation"
            raise ValidationError(message)
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    return create_model(f"{name}_input", __config__=ConfigDict(extra="forbid"), **fields)


def _output_model(function: Callable[..., Any], name: str) -> tuple[type[BaseModel], bool]:
    """Give the output model, and whether results are wrapped as `{"result": …}`."""
    hint = get_type_hints(function, include_extras=True).get("return")
    if hint is None or hint is type(None):
        message = f"tool {name!r} must say what it gives: annotate its return type (a result is never nothing)"
        raise ValidationError(message)
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint, False
    if is_typeddict(hint) or _is_mapping(hint):
        return OpenObject, False
    return create_model(f"{name}_output", result=(hint, ...)), True


def _is_mapping(hint: Any) -> bool:
    plain = get_origin(hint) or hint
    return isinstance(plain, type) and issubclass(plain, Mapping)
