"""Types at compile: what is certain to fail in the run is refused before, and nothing else is."""

from typing import Any

import pytest
from pydantic import BaseModel

from headrace.events.catalogue import ToolManifest
from headrace.plans.model import Plan
from headrace.specs.documents import from_value
from headrace.specs.problems import Problems
from headrace_planner.compile.compiler import compile as compile_document
from tests.planner.catalogue_fixture import catalogue


class Symbol(BaseModel):
    name: str
    line: int


class Report(BaseModel):
    path: str
    lines: int
    share: float
    symbols: list[Symbol]
    note: str | None = None


class CountArguments(BaseModel):
    limit: int = 1
    share: float = 0.5
    label: str = ""
    names: list[str] = []
    strict: bool = False
    symbol: Symbol | None = None
    either: int | str = 1


def tools() -> dict[str, ToolManifest]:
    known = catalogue()
    known["report"] = ToolManifest(
        name="report",
        version="1",
        effect="read",
        access="auto",
        idempotent=True,
        pool="runner",
        input_schema=CountArguments.model_json_schema(),
        output_schema=Report.model_json_schema(mode="serialization"),
    )
    return known


INPUTS: dict[str, Any] = {
    "root": {"type": "string"},
    "n": {"type": "integer"},
    "share": {"type": "number"},
    "flag": {"type": "boolean", "default": False},
    "names": {"type": "array", "default": []},
    "open": {"type": "object", "default": {}},
    "any": {"default": None},
    "later": {"type": "string", "required": False},
}


def made(*steps: dict[str, Any], **spec: Any) -> Plan | Problems:
    document = {
        "apiVersion": "headrace/v1",
        "kind": "Workflow",
        "metadata": {"name": "w"},
        "spec": {"inputs": INPUTS, "steps": [{"id": "first", "tool": "report"}, *steps], **spec},
    }
    return compile_document(from_value(document), tools())


def refused(*steps: dict[str, Any], **spec: Any) -> list[tuple[str, str, str]]:
    found = made(*steps, **spec)
    assert isinstance(found, Problems)
    return [(one.path, one.message, one.type) for one in found]


ROOT = "spec.steps[1]"


@pytest.mark.parametrize(
    ("step", "path", "why"),
    [
        ({"transform": "{{ inputs.root + 1 }}"}, "transform", "inputs.root is a text and 1 is a whole number"),
        ({"transform": "{{ inputs.later + 1 }}"}, "transform", "inputs.later is a text and 1 is a whole number"),
        ({"transform": {"a": ["{{ inputs.n * 1.5 }}"]}}, "transform.a[0]", "int(x) or double(x)"),
        ({"transform": "{{ steps.first.output.path - 1 }}"}, "transform", "steps.first.output.path is a text"),
        ({"transform": "{{ size(steps.first.output.lines) }}"}, "transform", "size() takes a text"),
        ({"transform": "{{ steps.first.output.symbols.name }}"}, "transform", "is a list and has no field 'name'"),
        ({"transform": "{{ steps.first.output.symbols.map(s, s.line + s.name) }}"}, "transform", "s.name is a text"),
        ({"transform": "{{ steps.first.outptu }}"}, "transform", "did you mean output?"),
        ({"transform": "{{ steps.first.status + 1 }}"}, "transform", "steps.first.status is a text"),
        ({"transform": "{{ run.attempt + run.id }}"}, "transform", "run.id is a text"),
        ({"transform": "{{ variables.who + 1 }}"}, "transform", "variables.who is a text"),
        ({"condition": "inputs.root", "transform": 1}, "condition", "gives a text where true or false is needed"),
        ({"condition": "inputs.n", "then": ["first"]}, "condition", "gives a whole number where true"),
        (
            {"gate": {"type": "expression", "expression": "steps.first.output.lines"}},
            "gate.expression",
            "gives a whole number where true or false is needed",
        ),
        ({"map": "{{ steps.first.output }}", "transform": "{{ item }}"}, "map", "is a map; its lists are: symbols"),
        ({"map": "{{ inputs.root }}", "transform": "{{ item }}"}, "map", "map needs a list"),
        (
            {"map": "{{ steps.first.output.symbols }}", "transform": "{{ item.name + index }}"},
            "transform",
            "item.name is a text and index is a whole number",
        ),
        (
            {"map": "{{ steps.first.output.symbols }}", "tool": "report", "with": {"limit": "{{ item.name }}"}},
            "with.limit",
            "limit must be a whole number, and {{ item.name }} is a text; convert it with {{ int(item.name) }}",
        ),
        (
            {"tool": "report", "outputs": {"x": "{{ output.path * 2 }}"}},
            "outputs.x",
            "output.path is a text",
        ),
        (
            {"tool": "report", "artifacts": [{"type": "file", "label": "x", "value": "{{ output.lines.name }}"}]},
            "artifacts[0].value",
            "output.lines is a whole number and has no field 'name'",
        ),
    ],
)
def test_an_expression_that_no_run_could_evaluate_is_refused_with_what_it_found(
    step: dict[str, Any], path: str, why: str
) -> None:
    found = refused({"id": "a", **step}, variables={"who": "{{ inputs.root }}"})
    assert [(place, kind) for place, _, kind in found] == [
        (f"{ROOT}.{path}", "validation_error" if ".with." in f".{path}" else "expression_error")
    ]
    assert why in found[0][1]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"limit": "{{ inputs.root }}"}, "step 'a': limit must be a whole number, and {{ inputs.root }} is a text"),
        ({"share": "{{ inputs.root }}"}, "share must be a number, and {{ inputs.root }} is a text; convert it with"),
        ({"label": "{{ inputs.n }}"}, "label must be a text, and {{ inputs.n }} is a whole number; convert it with"),
        ({"label": "{{ steps.first.output }}"}, "write it as a text with {{ json(steps.first.output) }}"),
        ({"names": "{{ inputs.root }}"}, "put it into a list: {{ [inputs.root] }}"),
        ({"strict": "{{ inputs.n }}"}, "strict must be true or false, and {{ inputs.n }} is a whole number"),
        ({"symbol": "{{ inputs.root }}"}, "symbol must be a map, and {{ inputs.root }} is a text"),
    ],
)
def test_an_argument_that_fits_no_value_of_its_field_is_refused(arguments: dict[str, Any], why: str) -> None:
    found = refused({"id": "a", "tool": "report", "with": arguments})
    assert len(found) == 1
    assert found[0][0] == f"{ROOT}.with.{next(iter(arguments))}"
    assert why in found[0][1]


@pytest.mark.parametrize(
    "step",
    [
        {"transform": "{{ inputs.any + 1 }}"},
        {"transform": "{{ inputs.open.x + 1 }}"},
        {"transform": "{{ trigger.x + 1 }}"},
        {"transform": "{{ inputs.names.map(x, x + 1) }}"},
        {"transform": "{{ inputs.root + string(inputs.n) }}"},
        {"transform": "{{ steps.first.output.extra + 1 }}"},
        {"transform": "{{ steps.first.output == null ? 0 : steps.first.output.lines }}"},
        {"transform": "{{ has(steps.first.outputs) ? 1 : 2 }}"},
        {"transform": "{{ steps.first.error == null ? 'fine' : steps.first.error.message }}"},
        {"transform": "{{ variables.half * 2.0 }}"},
        {"transform": "{{ variables.half * 2 }}"},
        {"tool": "report", "with": {"limit": "{{ inputs.share }}"}},
        {"tool": "report", "with": {"limit": "{{ inputs.any }}", "either": "{{ inputs.root }}"}},
        {"tool": "report", "with": {"share": "{{ inputs.n }}", "label": "{{ steps.first.output.note }}"}},
        {"tool": "report", "with": {"label": "{{ inputs.later }}", "symbol": "{{ steps.first.output.symbols[0] }}"}},
        {"map": "{{ inputs.any }}", "transform": "{{ item + 1 }}"},
        {"map": ["a", 1], "transform": "{{ item + 1 }}"},
        {"map": "{{ inputs.open.list }}", "tool": "report", "outputs": {"n": "{{ output[0].lines + 1 }}"}},
        {"tool": "file_read", "with": {"path": "x"}, "outputs": {"n": "{{ output.anything + 1 }}"}},
        {"condition": "steps.first.output.note == null", "transform": 1},
    ],
)
def test_what_a_run_may_evaluate_is_never_refused(step: dict[str, Any]) -> None:
    assert isinstance(made({"id": "a", **step}, variables={"half": 2.0}), Plan)


def test_types_go_through_transforms_and_maps_and_back_to_the_outputs() -> None:
    found = refused(
        {"id": "each", "map": "{{ steps.first.output.symbols }}", "transform": {"at": "{{ item.line }}"}},
        {"id": "sum", "transform": {"total": "{{ steps.each.output.map(one, one.at + 1).sum() }}", "name": "x"}},
        {"id": "last", "map": [1], "tool": "report"},
        outputs={
            "fine": "{{ steps.sum.output.total + 1 }}",
            "wrong": "{{ steps.sum.output.name + 1 }}",
            "list": "{{ steps.last.output.lines }}",
            "none": "{{ steps.sum.output.nmae }}",
        },
    )
    assert [(path, "steps." in message) for path, message, _ in found] == [
        ("spec.outputs.wrong", True),
        ("spec.outputs.list", True),
        ("spec.outputs.none", True),
    ]
    assert "did you mean name?" in found[2][1]


def test_what_waits_and_people_give_has_a_type_too() -> None:
    found = refused(
        {"id": "ask", "approval": {}},
        {"id": "rest", "wait": "1s"},
        {"id": "check", "gate": {"type": "expression", "expression": "true"}},
        outputs=[
            "{{ steps.ask.output.by + 1 }}",
            "{{ steps.rest.output.due_at + 'x' }}",
            "{{ steps.check.output.outcome + 1 }}",
            "{{ steps.ask.output.by.join(', ') + steps.check.output.message }}",
        ],
    )
    assert [path for path, _, _ in found] == ["spec.outputs[0]", "spec.outputs[1]", "spec.outputs[2]"]


def test_what_undoes_a_step_sees_the_output_that_is_undone() -> None:
    undo = {"tool": "file_write", "with": {"path": "{{ output.path }}", "contents": "{{ string(output.lines + 'x') }}"}}
    found = refused({"id": "a", "tool": "report", "compensate": undo})
    assert [path for path, _, _ in found] == [f"{ROOT}.compensate.with.contents"]
    assert "output.lines is a whole number and 'x' is a text" in found[0][1]


def test_types_go_through_a_long_chain_however_it_is_written() -> None:
    steps: list[dict[str, Any]] = [{"id": "s0", "transform": {"a": 1}}]
    steps += [{"id": f"s{n}", "transform": {"a": f"{{{{ steps.s{n - 1}.output.a + 1 }}}}"}} for n in range(1, 600)]
    found = refused(*reversed(steps), outputs="{{ steps.s599.output.a + 'x' }}")
    assert [path for path, _, _ in found] == ["spec.outputs"]
