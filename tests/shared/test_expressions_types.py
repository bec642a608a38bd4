"""Types of expressions: whatever the library can evaluate is allowed, and has the kind that was told before."""

import contextlib
import io
from datetime import datetime, timedelta
from itertools import product
from typing import Any, Final

import cel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.expressions import types
from headrace.expressions.expression import parse
from headrace.expressions.functions import FUNCTIONS, IN_ORDER, NATIVE
from headrace.expressions.infer import infer
from headrace.expressions.references import MACROS
from headrace.expressions.scope import Values
from headrace.expressions.signatures import BINARY, SIGNATURES
from headrace.expressions.syntax import tree
from headrace.expressions.types import ANY, Type, of_schema, of_value, optional, stored, union

SAMPLES: Final = {
    "null": ["null"],
    "bool": ["true"],
    "int": ["2", "1"],
    "uint": ["2u"],
    "double": ["2.0"],
    "string": ['"2"', "'b'", 'r"b"', '"abc"', '"2020-01-01T00:00:00Z"', '"5s"', '"true"', '""'],
    "bytes": ['b"2"', "rb'2'"],
    "timestamp": ['timestamp("2020-01-01T00:00:00Z")'],
    "duration": ['duration("5s")'],
    "list": ["[1]", '["a"]', "[]", "[[1]]"],
    "map": ['{"a": 1}', "{}"],
}
ALL: Final = [text for texts in SAMPLES.values() for text in texts]
SAMPLE_OF_KIND: Final = [texts[0] for texts in SAMPLES.values()]
OF_PYTHON: Final[dict[type, set[str]]] = {
    type(None): {"null"},
    bool: {"bool"},
    int: {"int", "uint"},
    float: {"double"},
    str: {"string", "type"},
    bytes: {"bytes"},
    datetime: {"timestamp"},
    timedelta: {"duration"},
    list: {"list"},
    dict: {"map"},
}
FORMS: Final = (
    *("!{}", "-{}", "{}.a", "{}[0]", "{}['a']", "{} ? 1 : 2", "has({}.a)", "type({}) == int"),
    *("{}.map(x, x)", "{}.filter(x, true)", "{}.all(x, x)", "{}.exists(x, x == 1)", "{}.map(x, true, x + 1)"),
)
THREE: Final = frozenset({"indexOf", "lastIndexOf", "substring", "replace", "split", "slice", "flatten"})
FAILED: Final = object()


def evaluated(text: str) -> Any:
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return cel.compile(text).execute(dict(FUNCTIONS))
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError):
        return FAILED


def holds(text: str) -> None:
    """What can be evaluated is not called wrong, and has one of the kinds told."""
    value = evaluated(text)
    if value is FAILED or (text.startswith("replace(timestamp") and isinstance(value, datetime)):
        return  # Python's datetime.replace is no function of expressions
    known, errors = infer(text, lambda _: ANY)
    assert errors == (), text
    assert known.kinds & OF_PYTHON[type(value)], (text, value, str(known))


@pytest.mark.parametrize("operator", [*BINARY, "==", "!=", "in"])
def test_an_operator_that_the_library_performs_is_never_refused(operator: str) -> None:
    for a, b in product(ALL, ALL):
        holds(f"{a} {operator} {b}")


@pytest.mark.parametrize("operator", list(BINARY))
def test_an_operator_over_kinds_that_the_library_refuses_is_refused(operator: str) -> None:
    for one, other in product(SAMPLES, SAMPLES):
        works = any(evaluated(f"{a} {operator} {b}") is not FAILED for a, b in product(SAMPLES[one], SAMPLES[other]))
        assert works or (one, other) not in BINARY[operator], (one, operator, other)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_that_the_library_evaluates_is_never_refused(form: str) -> None:
    for text in ALL:
        holds(form.format(text))


@pytest.mark.parametrize("function", sorted((NATIVE | FUNCTIONS.keys()) - MACROS - {"has", IN_ORDER}))
def test_a_call_that_the_library_performs_is_never_refused(function: str) -> None:
    for argument in ALL:
        holds(f"{function}({argument})")
    for one, two in product(ALL, SAMPLE_OF_KIND):
        holds(f"{function}({one}, {two})")
    if function in THREE:
        for one, two, three in product(SAMPLE_OF_KIND, SAMPLE_OF_KIND, SAMPLE_OF_KIND):
            holds(f"{function}({one}, {two}, {three})")


def test_every_signature_is_of_a_function_that_there_is() -> None:
    assert SIGNATURES.keys() <= NATIVE | FUNCTIONS.keys()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, 2.0, "", "a", "7"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=5,
)


def expressions(depth: int) -> st.SearchStrategy[str]:
    leaf = st.sampled_from(
        ["inputs", "inputs.a", "inputs.b", "inputs.a.a", "inputs.b[0]", "1", "2.5", "'a'", "[]", "x"]
    )
    if depth == 0:
        return leaf
    inner = expressions(depth - 1)
    operators = st.sampled_from(["+", "-", "*", "<", "==", "&&", "||", "in"])
    two = st.builds(lambda left, sign, right: f"({left} {sign} {right})", inner, operators, inner)
    one = st.builds(lambda form, text: form.format(f"({text})"), st.sampled_from(FORMS), inner)
    called = st.builds(
        lambda name, text: f"{name}({text})",
        st.sampled_from(["size", "string", "int", "json", "sort", "keys", "first", "sum", "join", "type"]),
        inner,
    )
    macro = st.builds(
        lambda over, name, body: f"{over}.{name}(x, {body})",
        st.sampled_from(["inputs.a", "[1, 2]", "[inputs.b]"]),
        st.sampled_from(sorted(MACROS)),
        inner,
    )
    choice = st.builds(lambda yes, no: f"(has(inputs.a) ? {yes} : {no})", inner, inner)
    return leaf | two | one | called | macro | choice


@given(st.dictionaries(st.sampled_from(["a", "b"]), JSON, max_size=2), expressions(3))
@settings(max_examples=1500, deadline=None)
def test_what_evaluates_on_a_value_of_a_type_has_a_type_and_is_wrong_only_where_it_was_not_evaluated(
    value: dict[str, Any], text: str
) -> None:
    """Exact types of constants are the hardest case: every other known type allows more."""
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            found = cel.compile(text).execute({"inputs": value, **FUNCTIONS})
        except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError):
            return
    known, errors = infer(text, lambda _: stored(of_value(value)))
    lazy = any(sign in text for sign in ("?", "||", "&&", "all(", "exists(", "exists_one(", "map(", "filter("))
    assert errors == () or lazy, (value, text)
    assert errors or known.kinds & OF_PYTHON[type(found)] or "optional" in known.kinds, (value, text, str(known))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("inputs.a + 1", "inputs.a is a text and 1 is a whole number, which `+` cannot take together"),
        ("1 + inputs.a", "convert with int(inputs.a), or string(1)"),
        ("inputs.n * 1.5", "convert one with int(x) or double(x)"),
        ("inputs.n - 'x'", "convert with int('x')"),
        ("size(inputs.n)", "inputs.n is a whole number; size() takes a text or bytes or a list or a map there"),
        ("inputs.a.b", "inputs.a is a text and has no field 'b'"),
        ("inputs.items.map(one, one.name + 1)", "one.name is a text and 1 is a whole number"),
        ("inputs.items.name", "inputs.items is a list and has no field 'name'"),
        ("inputs.items['a']", "its index must be a whole number"),
        ("inputs.a && true", "inputs.a is a text; beside && it must be true or false"),
        ("inputs.n ? 1 : 2", "before ? it must be true or false"),
        ("!inputs.a", "! takes true or false"),
        ("'a' in inputs.a", "use inputs.a.contains('a')"),
        ("inputs.a.map(x, x)", ".map() goes over a list or a map"),
        ("inputs.items.filter(one, one.name)", "as the condition of .filter()"),
        ("string(inputs.flag)", "write it with json(x)"),
        ("inputs.exact.nmae", "inputs.exact has no field 'nmae'; did you mean name?"),
        ("has(inputs.a.b)", "has() looks into a map"),
        ("(inputs.flag ? inputs.n : 2) + 'a'", "is a whole number and 'a' is a text"),
        ("inputs.maybe + 1", "inputs.maybe is a text and 1 is a whole number"),
    ],
)
def test_an_operation_that_no_value_allows_is_told_with_what_was_found(text: str, why: str) -> None:
    known, errors = infer(text, lambda _: INPUTS)
    assert len(errors) == 1
    assert why in errors[0]
    assert known.kinds


@pytest.mark.parametrize(
    "text",
    [
        "inputs.any + 1",
        "inputs.some + 1",
        "inputs.maybe == null ? 1 : size(inputs.maybe)",
        "type(inputs.a) == int ? inputs.a + 1 : 2",
        "type(inputs.a) == int && inputs.a + 1 > 2",
        "has(inputs.exact.nope) ? 1 : 2",
        "inputs.open.whatever + 1",
        "dyn(inputs.a) + 1",
        "[].map(x, x + 1)",
        "inputs.items.map(inputs, inputs.name)",
        "inputs.either.a + 1",
        "{'a': 1}.a + 1",
        "inputs.tree.children[0].children[0].children[0].name + 'x'",
    ],
)
def test_what_some_value_allows_is_not_wrong(text: str) -> None:
    assert infer(text, lambda _: INPUTS).errors == ()


def test_what_cannot_be_read_is_not_judged() -> None:
    assert tree("a.b{c: 1}") is None
    assert infer("a.b{c: 1} + 'a' - 1", lambda _: ANY).errors == ()
    assert tree("(" * 1000 + "1" + ")" * 1000) is None


SCHEMA: Final = {
    "type": "object",
    "properties": {
        "a": {"type": "string"},
        "n": {"type": "integer"},
        "flag": {"type": "boolean"},
        "any": {},
        "some": {"type": ["string", "integer"]},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "items": {"type": "array", "items": {"$ref": "#/$defs/One"}},
        "exact": {"$ref": "#/$defs/Exact"},
        "open": {"type": "object"},
        "either": {"oneOf": [{"$ref": "#/$defs/Exact"}, {"type": "object", "properties": {"a": {"type": "integer"}}}]},
        "tree": {"$ref": "#/$defs/Tree"},
    },
    "$defs": {
        "One": {"type": "object", "properties": {"name": {"type": "string"}}},
        "Exact": {"type": "object", "properties": {"name": {"enum": ["x"]}}, "additionalProperties": False},
        "Tree": {
            "type": "object",
            "properties": {"name": {}, "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
        },
    },
}
INPUTS: Final = of_schema(SCHEMA)


@given(st.lists(JSON, min_size=1, max_size=4))
def test_a_union_allows_what_each_of_its_types_allows(values: list[Any]) -> None:
    whole = union(map(of_value, values))
    for value in values:
        assert allows(whole, value)
        assert allows(optional(whole), None)


def allows(known: Type, value: Any) -> bool:
    if not known.kinds & OF_PYTHON[type(value)]:
        return False
    if isinstance(value, list):
        return all(allows(known.items(), item) for item in value)
    if isinstance(value, dict):
        fields = {key: known.field(key) for key in value}
        return all(field is not None and allows(field, value[key]) for key, field in fields.items())
    return True


def test_of_types_that_are_the_same_word_no_more_is_said() -> None:
    assert str(types.NUMBER) == "a number"
    assert str(optional(types.STRING)) == "a text"
    assert str(ANY) == "any value"


def test_an_expression_of_any_length_is_judged_or_left_alone() -> None:
    assert infer(" + ".join(["inputs.a"] * 3000), lambda _: INPUTS).errors == ()
    assert parse(" + ".join(["inputs.n"] * 300)).evaluate(Values({"inputs": {"n": 1}})) == 300
