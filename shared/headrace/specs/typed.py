"""Types in a document: what its expressions look at, and which of them are certain to fail (pure).

The types of inputs are declared, those of a tool's output are its schema, those of transforms and variables follow from
their own expressions. What only a run knows is any value, so a document that may run is never refused.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from headrace.errors import ValidationError
from headrace.expressions import types
from headrace.expressions.infer import Root, infer
from headrace.expressions.scope import STEPS
from headrace.expressions.template import template
from headrace.expressions.types import ANY, BOOL, INT, STRING, Type, list_of, map_of, optional, union
from headrace.specs import graph, names
from headrace.specs.documents import Document
from headrace.specs.models import DashboardSpec, InputField, Step
from headrace.specs.problems import Path
from headrace.specs.uses import BASE, Use, templates, undoing, uses

Said = tuple[Path, str, str]
"""Where, what, and the type of the error."""
EXPRESSION: Final = "expression_error"
WRONG: Final = "validation_error"


class Called(NamedTuple):
    """What a step calls: where its arguments stand, and the tool's schemas."""

    arguments: Mapping[str, Any]
    path: Path
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]


NO_CALLS: Final[Mapping[str, Called]] = {}
NO_OUTPUT: Final = "none"
ONE: Final = "one"
"""`output` is what the tool gave, for one item of a map."""
WHOLE: Final = "whole"
"""`output` is what the step gave: of a map the list."""
INPUT_TYPES: Final = {
    "any": ANY,
    "string": STRING,
    "integer": INT,
    "number": types.NUMBER,
    "boolean": BOOL,
    "array": list_of(None),
    "object": types.MAP,
}
RUN: Final = map_of(
    {
        **dict.fromkeys(("id", "workspace", "requester"), STRING),
        **dict.fromkeys(("workflow", "subject", "stage"), optional(STRING)),
        **dict.fromkeys(("attempt", "created_at"), INT),
        "labels": types.MAP,
    },
    closed=False,
)
ERROR: Final = map_of({"type": STRING, "message": STRING}, closed=False)
FAILED_ITEM: Final = map_of({"index": INT, "error": ERROR}, closed=False)
ARTIFACT: Final = map_of({"type": STRING, "label": STRING, "value": ANY}, closed=False)
RESULTS: Final = {
    "gate": map_of({"outcome": STRING, "message": STRING, "evidence": types.MAP}, closed=False),
    "approval": map_of(
        {
            **dict.fromkeys(("status", "approval_id", "digest"), STRING),
            "by": list_of(STRING),
            "reason": optional(STRING),
        },
        closed=False,
    ),
    "wait": map_of({"due_at": INT, "ended_at": INT}, closed=False),
    "condition": map_of({"value": BOOL, "branch": STRING}, closed=False),
}
"""What steps give that perform no tool, by kind."""
SIGNAL: Final = map_of({**dict.fromkeys(("name", "by"), STRING), "data": ANY, "at": INT}, closed=False)
EVENT: Final = map_of({**dict.fromkeys(("name", "id"), STRING), "data": ANY, "at": INT}, closed=False)
"""What waits give that a signal or an event ends."""


def type_problems(document: Document, calls: Mapping[str, Called] = NO_CALLS) -> Iterator[Said]:
    """Say which expressions are certain to fail by the types of what they look at, and which values fit no field.

    `calls` are the tools that steps call, by step; without one its output is any value.
    """
    if document.spec is None:
        return
    scope = _Scope(document, calls)
    scope.follow(document)
    yield from _uses(templates(document.spec.variables, ("spec", "variables"), BASE), scope.root)
    if isinstance(document.spec, DashboardSpec):
        return
    yield from _uses(templates(document.spec.outputs, ("spec", "outputs"), BASE), scope.root)
    for number, step in document.steps:
        path: Path = ("spec", STEPS, number)
        yield from _step(step, path, scope, calls.get(step.id))


def _step(step: Step, path: Path, scope: "_Scope", called: Called | None) -> Iterator[Said]:
    for use in uses(step, path):
        field = use.path[len(path)]
        output = WHOLE if field == "outputs" else ONE if field == "artifacts" else NO_OUTPUT
        yield from _uses(iter((use,)), scope.within(step, output))
    yield from _uses(undoing(step, path), scope.within(step, ONE))
    if step.is_map and isinstance(step.map, str):
        known = _whole(step.map, scope.root)
        if known is not None and "list" not in known.kinds:
            message = f"step {step.id!r}: map needs a list, and {step.map} is {known}{_list_advice(known)}"
            yield (*path, "map"), message, EXPRESSION
    if called is not None:
        root = scope.within(step)
        for name, value in called.arguments.items():
            part = (called.input_schema.get("properties") or {}).get(name)
            place = (*called.path, name)
            if part is not None and isinstance(value, str):
                yield from _fit(step, name, value, types.of_schema(part, called.input_schema), root, place)


def _fit(step: Step, name: str, value: str, wanted: Type, root: Root, path: Path) -> Iterator[Said]:
    """Judge an argument that is one expression against its field; constants are judged by their value elsewhere."""
    known = _whole(value, root)
    if known is None or not _disjoint(types.stored(known), wanted):
        return
    message = f"step {step.id!r}: {name} must be {wanted}, and {value} is {known}{_advice(value, known, wanted)}"
    yield path, message, WRONG


def _disjoint(known: Type, wanted: Type) -> bool:
    numbers = frozenset({"int", "double"})
    allowed = wanted.kinds | numbers if wanted.kinds & numbers else wanted.kinds
    return not known.kinds & allowed


def _advice(value: str, known: Type, wanted: Type) -> str:
    inner = value.strip().removeprefix("{{").removesuffix("}}").strip()
    one = known.kinds - {"null"}
    if wanted.kinds >= {"string"} and one <= {"int", "double", "uint"}:
        return f"; convert it with {{{{ string({inner}) }}}}"
    if wanted.kinds >= {"string"} and one <= {"list", "map", "bool"}:
        return f"; write it as a text with {{{{ json({inner}) }}}}"
    if wanted.kinds & {"int", "double"} and one == {"string"}:
        function = "int" if "double" not in wanted.kinds else "double"
        return f"; convert it with {{{{ {function}({inner}) }}}}"
    if wanted.kinds >= {"bool"} and one == {"string"}:
        return f"; convert it with {{{{ bool({inner}) }}}}"
    if wanted.kinds >= {"list"} and not one & {"list"}:
        return f"; put it into a list: {{{{ [{inner}] }}}}"
    return ""


def _list_advice(known: Type) -> str:
    if known.kinds - {"null"} != {"map"} or not known.fields:
        return ""
    lists = [name for name, field in known.fields.items() if "list" in field.kinds and field.kinds < types.KINDS]
    return f"; its lists are: {', '.join(sorted(lists))}" if lists else ""


def _uses(found: Iterator[Use], root: Root) -> Iterator[Said]:
    for use in found:
        if use.expression is None or use.expression.constant:
            continue
        text = use.expression.text
        known, errors = infer(text, root)
        for why in errors:
            yield use.path, f"expression {text!r}: {why}", EXPRESSION
        if use.truth and not errors and "bool" not in known.kinds:
            why = f"gives {known} where true or false is needed; compare it with something"
            yield use.path, f"expression {text!r}: {why}", EXPRESSION


def _whole(value: str, root: Root) -> Type | None:
    """Give the type of a template that is one expression of recorded values, without a mistake; None for others."""
    try:
        only = template(value).whole
    except ValidationError:
        return None
    if only is None or only.constant:
        return None
    known, errors = infer(only.text, root)
    return None if errors else known


def _template(value: Any, root: Root) -> Type:
    """Give the type of a template's value."""
    match value:
        case str():
            try:
                read = template(value)
            except ValidationError:
                return ANY
            return STRING if read.whole is None else infer(read.whole.text, root).type
        case list():
            return list_of(union([_template(item, root) for item in value]) if value else None)
        case dict():
            return map_of({str(key): _template(item, root) for key, item in value.items()}, closed=True)
        case _:
            return types.of_value(value)


class _Lazy(Mapping[str, Type]):
    """Types by name, each made when it is asked for; of one that asks for itself nothing is known."""

    def __init__(self, names: list[str], make: Callable[[str], Type]) -> None:
        self._names = dict.fromkeys(names)
        self._make = make
        self._made: dict[str, Type] = {}

    def __getitem__(self, name: str) -> Type:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = ANY
            self._made[name] = self._make(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Scope:
    """The types of the roots of a document's expressions."""

    def __init__(self, document: Document, calls: Mapping[str, Called]) -> None:
        assert document.spec is not None, "the caller sees to it"
        self._steps = {step.id: step for _, step in document.steps}
        self._calls = calls
        variables = document.spec.variables
        inputs = {name: _input(field) for name, field in document.spec.inputs.items()}
        self._results = _Lazy(list(self._steps), self._result)
        self._roots = {
            "run": RUN,
            **dict.fromkeys(("index", "iteration"), INT),
            "inputs": map_of(inputs, closed=False),
            "variables": map_of(
                _Lazy(list(variables), lambda name: types.stored(_template(variables[name], self.root))), closed=False
            ),
            STEPS: map_of(_Lazy(list(self._steps), self._view), closed=False),
        }

    def follow(self, document: Document) -> None:
        """Find the types of all outputs, each after those that it rests on, so that no chain is followed at once."""
        needed = graph.needs([step for _, step in document.steps], chain=document.kind == names.TOOL_PLAN)
        if not graph.cycle(needed):
            for step_id in graph.topological(needed):
                self._results.get(step_id)

    def root(self, name: str) -> Type:
        """Give the type of a root outside of maps."""
        return self._roots.get(name, ANY)

    def within(self, step: Step, output: str = NO_OUTPUT) -> Root:
        """Give the types of the roots in a step; its own `output` is there for its artifacts and outputs alone."""
        return lambda name: self._inner(step, name, output)

    def _inner(self, step: Step, name: str, output: str) -> Type:
        if name == "item" and step.is_map:
            items = types.stored(_template(step.map, self.root))
            return items.items() if "list" in items.kinds else ANY
        if name == "output" and output != NO_OUTPUT:
            return self._results[step.id] if output == WHOLE else self._one(step)
        return self.root(name)

    def _view(self, step_id: str) -> Type:
        step = self._steps[step_id]
        fields = {
            "output": self._results[step_id],
            "status": STRING,
            "error": optional(ERROR),
            "artifacts": list_of(ARTIFACT),
        }
        if step.is_map:
            fields["failed"] = list_of(FAILED_ITEM)
        if step.outputs:
            named = self.within(step, WHOLE)
            fields["outputs"] = optional(types.stored(_template(step.outputs, named)))
        return map_of(fields, closed=True)

    def _result(self, step_id: str) -> Type:
        """Give the type of a step's output: null when it was skipped or failed."""
        step = self._steps[step_id]
        one = self._one(step)
        return optional(list_of(optional(one)) if step.is_map else one)

    def _one(self, step: Step) -> Type:
        """Give the type of what a step, or each item of a map, gives."""
        called = self._calls.get(step.id)
        if called is not None:
            return types.stored(types.of_schema(called.output_schema))
        if step.kind == "transform":
            return types.stored(_template(step.transform, self.within(step)))
        if step.wait is not None and step.wait.timer is None:
            return SIGNAL if step.wait.signal is not None else EVENT
        return RESULTS.get(step.kind, ANY)


def _input(field: InputField) -> Type:
    required = field.required if field.required is not None else "default" not in field.model_fields_set
    known = INPUT_TYPES.get(field.type, ANY)
    return known if required or field.default is not None else optional(known)
