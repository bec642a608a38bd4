"""Templates: expressions inside JSON values, filled once."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import StepError, ValidationError
from headrace.expressions.scope import Values
from headrace.expressions.template import template

SCOPE = Values(
    {"inputs": {"root": "src", "n": 3, "map": {"b": 1, "a": [True, None]}, "trap": "{{ inputs.root }}"}},
    {"gather": {"status": "succeeded", "output": {"paths": ["a.py", "b.py"]}}},
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def resolved(value: Any) -> Any:
    return template(value).resolve(SCOPE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{{ inputs.n }}", 3),
        ("{{steps.gather.output.paths}}", ["a.py", "b.py"]),
        ("{{ inputs.root }}/x", "src/x"),
        ("{{ inputs.n }}{{ inputs.n }}", "33"),
        (" {{ inputs.n }}", " 3"),
        ("{{ inputs.map }} {{ null }}", '{"a":[true,null],"b":1} null'),
        ("{{ {'a': {'b': 1}} }}", {"a": {"b": 1}}),
        ("{{ '}}' }}", "}}"),
        (r"\{{ inputs.n }}", "{{ inputs.n }}"),
        (r"\{{ x }} {{ inputs.n }}", "{{ x }} 3"),
        ("no braces { }", "no braces { }"),
        ("", ""),
        ({"a": ["{{ inputs.n }}", {"b": "{{ inputs.root }}"}], "{{ k }}": 1}, {"a": [3, {"b": "src"}], "{{ k }}": 1}),
        (7, 7),
        (None, None),
    ],
)
def test_a_template_is_filled(value: Any, expected: Any) -> None:
    assert resolved(value) == expected


def test_a_value_is_never_expanded_twice() -> None:
    assert resolved("{{ inputs.trap }}") == "{{ inputs.trap }}".replace("trap", "root")
    assert resolved("<{{ inputs.trap }}>") == "<{{ inputs.root }}>"


@given(JSON)
@settings(max_examples=150, deadline=None)
def test_whatever_a_value_holds_it_comes_through_as_it_is(value: Any) -> None:
    scope = Values({"inputs": {"x": value}})
    assert template({"a": ["{{ inputs.x }}"]}).resolve(scope) == {"a": [value]}


@given(st.text(alphabet="{}\\ ainputs.x'", max_size=24))
@settings(max_examples=300, deadline=None)
def test_text_put_into_a_template_is_never_code(text: str) -> None:
    scope = Values({"inputs": {"x": text}})
    assert template("<{{ inputs.x }}>{{ inputs.x }}").resolve(scope) == f"<{text}>{text}"


@given(st.text(alphabet="{}\\ inputs.x'\"", max_size=24))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        template(text).resolve(Values({"inputs": {"x": 1}}))
    except (ValidationError, StepError):
        return


@pytest.mark.parametrize("value", ["{{ inputs.root", "{{ }}", "{{ 'a }}", "x {{ 1 + }} y"])
def test_a_broken_template_is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        template(value)


def test_a_missing_reference_is_a_named_error() -> None:
    with pytest.raises(StepError, match="did you mean root"):
        resolved({"deep": ["{{ inputs.rot }}"]})


def test_references_and_constancy_are_known_beforehand() -> None:
    read = template({"a": "{{ inputs.root }}", "b": ["{{ steps.gather.output }}", "x"]})
    assert read.references == {("inputs", None), ("steps", "gather")}
    assert not read.constant
    assert template({"a": "{{ 1 + 1 }}"}).constant


def test_a_resolved_value_is_nobody_elses() -> None:
    read = template({"a": [1]})
    read.resolve(SCOPE)["a"].append(2)
    assert read.resolve(SCOPE) == {"a": [1]}
