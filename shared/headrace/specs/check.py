"""Judging a document offline: everything that needs no catalogue, all problems together (pure)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from headrace.errors import StepError
from headrace.expressions.near import hint
from headrace.expressions.scope import NOTHING, STEPS
from headrace.expressions.template import OPEN
from headrace.specs import gates, graph, names
from headrace.specs.dashboards import dashboard_problems
from headrace.specs.documents import Document, in_order
from headrace.specs.models import DashboardSpec, InputField, Step, ToolPlanSpec, WorkflowSpec
from headrace.specs.problems import Path, Problem, Problems
from headrace.specs.shapes import shape_problems
from headrace.specs.typed import NO_CALLS, Called, type_problems
from headrace.specs.uses import BASE, TRIGGER, Use, condition, templates, undoing, uses

STEPS_PATH: Final[Path] = ("spec", "steps")
TYPES: Final[dict[str, Callable[[Any], bool]]] = {
    "any": lambda _: True,
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
WITHOUT_CALL: Final = frozenset({"transform", "condition", "approval", "wait", "loop"})

Said = tuple[Path, str, str]
"""Where, what, and the type of the error."""
WRONG: Final = "validation_error"
DANGLING: Final = "unknown_dependency"
CYCLE: Final = "cycle_detected"
EXPRESSION: Final = "expression_error"


def validate(document: Document, plug_in_gates: Iterable[str] = (), calls: Mapping[str, Called] = NO_CALLS) -> Problems:
    """Give everything that is wrong with a document and can be told without a catalogue of tools.

    `plug_in_gates` are gate types beside those of VOCABULARY; `calls` are the tools that steps call, where they are
    known, whose schemas say what arguments must be and what outputs are.
    """
    said: list[Said] = []
    spec = document.spec
    if isinstance(spec, DashboardSpec):
        said += [(path, message, WRONG) for path, message in dashboard_problems(spec)]
        for path, value in _dashboard_templates(spec):
            said += _expressions(templates(value, path, BASE - {STEPS}), document, frozenset())
    else:
        said += _steps(document, frozenset(plug_in_gates))
    if spec is not None:
        said += _inputs(spec.inputs)
        said += _expressions(
            templates(spec.variables, ("spec", "variables"), frozenset({"inputs", "trigger", "run"})),
            document,
            frozenset(),
        )
    if isinstance(spec, WorkflowSpec | ToolPlanSpec):
        known = frozenset(step_id for _, step_id in document.step_ids)
        said += _expressions(templates(spec.outputs, ("spec", "outputs"), BASE), document, known)
    if isinstance(spec, WorkflowSpec):
        said += _triggers(spec, document)
        if spec.concurrency is not None:
            place = ("spec", "concurrency", "key")
            roots = frozenset({"inputs", "trigger", "run"})
            said += _expressions(templates(spec.concurrency.key, place, roots), document, frozenset())
    said += type_problems(document, calls)
    located: list[Problem] = list(document.problems)
    for path, message, kind in said:
        located.extend(document.located([(path, message)], kind))
    return in_order(located)


def _steps(document: Document, plug_ins: frozenset[str]) -> Iterator[Said]:
    known = frozenset(step_id for _, step_id in document.step_ids)
    steps = [step for _, step in document.steps]
    inside = graph.parents(steps)
    seen: dict[str, int] = {}
    for number, step_id in document.step_ids:
        if step_id in seen:
            yield (
                (*STEPS_PATH, number, "id"),
                f"duplicate step ID {step_id!r}: step {seen[step_id] + 1} has it too",
                WRONG,
            )
        seen.setdefault(step_id, number)
    for number, step in document.steps:
        path: Path = (*STEPS_PATH, number)
        yield from _names(step, path, known)
        repeated = step.id in inside
        yield from _expressions(uses(step, path, repeated=repeated), document, known - {step.id}, own=step.id)
        yield from _expressions(undoing(step, path), document, known)
        yield from shape_problems(step, path, known, steps)
        yield from _shape(step, path, document.kind)
        if step.gate is not None:
            for key, message in gates.problems(step.gate, plug_ins):
                place = ("gate", key) if key == "type" else ("gate", "config", key) if key else ("gate",)
                yield (*path, *place), message, WRONG
    yield from _cycles(document)


def _names(step: Step, path: Path, known: frozenset[str]) -> Iterator[Said]:
    """Judge the steps that a step names outside expressions."""
    for number, need in enumerate(step.depends_on):
        if need == step.id:
            yield (*path, "depends_on", number), f"step {step.id!r} depends on itself", CYCLE
        elif need not in known:
            yield (*path, "depends_on", number), f"unknown step {need!r} in depends_on{hint(need, known)}", DANGLING
    if step.choice is None:
        return
    for branch, chosen in (("then", step.choice.then), ("else", step.choice.else_)):
        for number, name in enumerate(chosen):
            place = (*path, "condition", branch, number)
            if name == step.id:
                yield place, f"the branch {branch} of {step.id!r} names the condition itself", CYCLE
            elif name not in known:
                yield place, f"unknown step {name!r} in the branch {branch}{hint(name, known)}", DANGLING
    if not step.choice.then and not step.choice.else_:
        yield (*path, "condition"), "a condition step needs steps in then, else or both", WRONG


def _shape(step: Step, path: Path, document_kind: str) -> Iterator[Said]:
    """Judge what fits the kind of a step."""
    kind = step.kind
    if document_kind == names.TOOL_PLAN and (kind != "tool" or step.is_map):
        yield path, f"a ToolPlan is a chain of tools; step {step.id!r} is a {'map' if step.is_map else kind}", WRONG
    if kind == "tool" and isinstance(step.tool, str) and OPEN in step.tool:
        yield (*path, "tool"), "the name of a tool must be stated; it cannot come from an expression", WRONG
    if step.with_ and kind != "tool":
        yield (*path, "with"), f"a {kind} step takes no `with`", WRONG
    if kind in WITHOUT_CALL:
        for name in ("retry", "requires_confirmation", "precondition", "artifacts"):
            if name in step.model_fields_set and not (name == "artifacts" and kind == "transform"):
                yield (*path, name), f"{'an' if kind == 'approval' else 'a'} {kind} step takes no {name}", WRONG
    if kind == "condition" and step.is_map:
        yield (*path, "map"), "a condition cannot be a map", WRONG
    if step.choice is not None and set(step.choice.then) & set(step.choice.else_):
        both = ", ".join(sorted(set(step.choice.then) & set(step.choice.else_)))
        yield (*path, "condition"), f"{both} stands in both branches", WRONG
    if isinstance(step.map, str | int | float | dict | bool) and "map" in step.model_fields_set:
        if not (isinstance(step.map, str) and OPEN in step.map):
            yield (*path, "map"), "map must be a list, or a template that gives one", WRONG
    elif step.is_map and step.map is None:
        yield (*path, "map"), "map must be a list, or a template that gives one", WRONG


def _expressions(found: Iterable[Use], document: Document, steps: frozenset[str], own: str = "") -> Iterator[Said]:
    """Judge expressions: that they can be read, what they refer to, and the value of constant ones."""
    for use in found:
        if use.expression is None:
            yield use.path, use.error, EXPRESSION
            continue
        yield from _references(use, document, steps, own)
        if use.expression.constant:
            try:
                if use.truth:
                    use.expression.holds(NOTHING)
                else:
                    use.expression.evaluate(NOTHING)
            except StepError as problem:
                yield use.path, problem.message, EXPRESSION


def _references(use: Use, document: Document, steps: frozenset[str], own: str) -> Iterator[Said]:
    assert use.expression is not None, "the caller sees to it"
    text = use.expression.text
    for path in use.expression.paths:
        root, key = path[0], path[1] if len(path) > 1 else None
        if root not in use.roots:
            there = ", ".join(sorted(use.roots))
            yield use.path, f"expression {text!r}: there is no {root} here; there are: {there}", EXPRESSION
        elif root == STEPS and key == own:
            yield use.path, f"expression {text!r}: step {own!r} refers to itself", CYCLE
        elif root == STEPS and key not in steps:
            yield use.path, f"expression {text!r}: unknown step {key!r}{hint(str(key), steps)}", DANGLING
        elif root in {"inputs", "variables"} and key is not None and document.spec is not None:
            known = document.spec.inputs if root == "inputs" else document.spec.variables
            if key not in known:
                yield use.path, f"expression {text!r}: unknown {root[:-1]} {key!r}{hint(str(key), known)}", EXPRESSION


def _cycles(document: Document) -> Iterator[Said]:
    steps = [step for _, step in document.steps]
    needed = graph.needs(steps, chain=document.kind == names.TOOL_PLAN)
    trimmed = {step_id: tuple(need for need in needs if need != step_id) for step_id, needs in needed.items()}
    way = graph.cycle(trimmed)
    if way:
        numbers = {step.id: number for number, step in document.steps}
        yield (*STEPS_PATH, numbers[way[0]]), f"steps need each other in a cycle: {'-'.join(way)}", CYCLE


def _inputs(fields: dict[str, InputField]) -> Iterator[Said]:
    for name, field in fields.items():
        path: Path = ("spec", "inputs", name)
        if not name.isidentifier():
            yield path, f"{name!r} is not the name of an input: letters, digits and '_'", WRONG
        if field.default is not None and not TYPES[field.type](field.default):
            yield (*path, "default"), f"the default of input {name!r} is not of type {field.type}", WRONG
        if field.required and field.default is not None:
            yield (*path, "required"), f"input {name!r} has a default, so it cannot be required", WRONG


def _triggers(spec: WorkflowSpec, document: Document) -> Iterator[Said]:
    for number, trigger in enumerate(spec.triggers):
        path: Path = ("spec", "triggers", number)
        if trigger.when is not None:
            yield from _expressions([condition(trigger.when, (*path, "when"), TRIGGER)], document, frozenset())
        yield from _expressions(templates(trigger.inputs, (*path, "inputs"), TRIGGER), document, frozenset())
        for name in trigger.inputs:
            if name not in spec.inputs:
                yield (*path, "inputs", name), f"unknown input {name!r}{hint(name, spec.inputs)}", WRONG


def _dashboard_templates(spec: DashboardSpec) -> Iterator[tuple[Path, Any]]:
    for number, metric in enumerate(spec.metrics):
        yield ("spec", "metrics", number, "source", "with"), metric.source.with_
    for number, view in enumerate(spec.views):
        if view.source is not None:
            yield ("spec", "views", number, "source", "with"), view.source.with_
