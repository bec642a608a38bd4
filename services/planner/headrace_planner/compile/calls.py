"""What a step calls: the tool's name, its arguments, and what the catalogue says of it (pure)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from headrace.errors import ToolNotFoundError
from headrace.events.catalogue import ToolManifest
from headrace.expressions.near import hint
from headrace.plans.durations import duration
from headrace.plans.model import CallStep, ToolPin, manifest_digest
from headrace.specs.models import Compensation, Step
from headrace.specs.names import GATES
from headrace.specs.problems import Path
from headrace.specs.typed import Called
from headrace.vocabulary import Access, Effect
from headrace_planner.compile.arguments import WRONG, Said, argument_problems

GATE_PREFIX: Final = "gate."
HTTP: Final = "http"
HTTP_WRITE: Final = "http_write"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that only read (RFC 9110, 9.2.1); the others are performed by a tool of their own, whose effect is write."""
TIMEOUT_ARGUMENT: Final = "timeout_s"
"""How the http tools are told the limit of an attempt."""
GATE_KIND: Final = "gate"

Catalogue = Mapping[str, ToolManifest]


def call_of(step: Step | Compensation) -> CallStep | None:
    """Give the call that a tool, http or integration step makes, or what undoes one; None for other kinds."""
    match step.kind:
        case "tool":
            return CallStep(tool=str(step.tool), arguments=dict(step.with_))
        case "http":
            assert step.http is not None, "the kind says so"
            arguments: dict[str, Any] = step.http.model_dump(exclude_unset=True)
            arguments["method"] = step.http.method
            if step.timeout is not None:
                arguments[TIMEOUT_ARGUMENT] = step.timeout
            return CallStep(tool=HTTP if step.http.method in SAFE_METHODS else HTTP_WRITE, arguments=arguments)
        case "integration":
            assert step.integration is not None, "the kind says so"
            called = step.integration
            tool = f"{called.name}.{called.operation}"
            return CallStep(tool=tool, arguments=dict(called.with_), connection=called.connection)
        case _:
            return None


def called(steps: Iterable[tuple[int, Step]], catalogue: Catalogue) -> dict[str, Called]:
    """Give what the catalogue says of the tool that each step calls, by step."""
    known: dict[str, Called] = {}
    for number, step in steps:
        call = call_of(step)
        manifest = catalogue.get(call.tool) if call is not None else None
        if call is not None and manifest is not None:
            path = arguments_path(step, ("spec", "steps", number))
            known[step.id] = Called(call.arguments, path, manifest.input_schema, manifest.output_schema)
    return known


def arguments_path(step: Step | Compensation, path: Path) -> Path:
    """Give where the arguments of a step stand."""
    match step.kind:
        case "http":
            return (*path, "http")
        case "integration":
            return (*path, "integration", "with")
        case _:
            return (*path, "with")


def call_problems(step: Step | Compensation, call: CallStep, path: Path, catalogue: Catalogue) -> Iterator[Said]:
    """Say what the catalogue has against a call."""
    manifest = catalogue.get(call.tool)
    if manifest is None or manifest.kind == GATE_KIND:
        yield (*path, step.kind), not_found(call.tool, catalogue), ToolNotFoundError.type
        return
    yield from use_problems(manifest, (*path, step.kind))
    if manifest.effect != Effect.READ and not manifest.idempotent and step.retry is not None:
        message = f"{call.tool} acts on the world and is not idempotent, so it may not be retried"
        yield (*path, "retry"), message, WRONG
    place = arguments_path(step, path)
    for where, message, kind in argument_problems(call.tool, manifest.input_schema, call.arguments, place):
        if step.kind == "http" and where == (*place, TIMEOUT_ARGUMENT):  # the document says it beside the request
            most_s = manifest.input_schema["properties"].get(TIMEOUT_ARGUMENT, {}).get("maximum")
            told = f"an http request may take {duration(most_s)} at most" if most_s else message
            yield (*path, "timeout"), told, kind
        else:
            yield where, message, kind


def use_problems(manifest: ToolManifest, path: Path) -> Iterator[Said]:
    """Say why a tool may not be used at all; an access that is unknown is forbidden."""
    if manifest.access not in {Access.AUTO, Access.GATED}:
        yield path, f"the tool {manifest.name!r} is forbidden", WRONG


def gate_problems(step: Step, path: Path, catalogue: Catalogue) -> Iterator[Said]:
    """Say what the catalogue has against a gate."""
    assert step.gate is not None, "the caller sees to it"
    name = GATE_PREFIX + step.gate.type
    manifest = catalogue.get(name)
    if manifest is None and step.gate.type not in GATES:
        # The document's own check has named it already.
        return
    if manifest is None:
        gates = [one.removeprefix(GATE_PREFIX) for one in catalogue if one.startswith(GATE_PREFIX)]
        message = f"no gatekeeper offers the gate {step.gate.type!r}{hint(step.gate.type, gates)}"
        yield (*path, "gate", "type"), message, ToolNotFoundError.type
        return
    yield from use_problems(manifest, (*path, "gate"))
    yield from argument_problems(
        f"the gate {step.gate.type}", manifest.input_schema, step.gate.config, (*path, "gate", "config")
    )


def not_found(tool: str, catalogue: Catalogue) -> str:
    """Give the message about a tool that no worker has announced."""
    names = [name for name, manifest in catalogue.items() if manifest.kind != GATE_KIND]
    if not names:
        return f"tool {tool!r} not found: no worker has announced any tool yet"
    return f"tool {tool!r} not found{hint(tool, names)}"


def pin_of(manifest: ToolManifest) -> ToolPin:
    """Give what a plan pins of a tool."""
    return ToolPin(
        version=manifest.version,
        digest=manifest_digest(manifest),
        effect=manifest.effect,
        access=manifest.access,
        pool=manifest.pool,
        idempotent=manifest.idempotent,
        kind=manifest.kind,
        requires_connection=manifest.requires_connection,
        rate_limit=manifest.rate_limit or None,
    )
