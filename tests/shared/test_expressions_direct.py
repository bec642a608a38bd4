"""What is evaluated without the library is what the library gives, or the library is asked."""

import contextlib
import io
from typing import Any, Final

import cel
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.errors import StepError
from headrace.expressions import values
from headrace.expressions.direct import Unsure, program, sure
from headrace.expressions.expression import parse
from headrace.expressions.functions import FUNCTIONS
from headrace.expressions.scope import Values

FAILED: Final = object()
UNSURE: Final = object()


def of_library(text: str, inputs: Any) -> Any:
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            return values.plain(cel.compile(text).execute({"inputs": inputs, **FUNCTIONS}))
        except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError):
            return FAILED


def of_ours(text: str, inputs: Any) -> Any:
    made = program(text)
    if made is None:
        return UNSURE
    try:
        return sure(made(Values({"inputs": inputs}), {}))
    except Unsure:
        return UNSURE


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from([0.5, 2.0, -0.0, 2**63 - 1, -(2**63), 2**63, 2**70, "", "a", "7", "é", "😀", "A b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=6,
)
LEAVES = st.sampled_from(
    [
        *("inputs", "inputs.a", "inputs.b", "inputs.a.a", "inputs.b[0]", "inputs['a']", "x", "x.a", "y"),
        *(
            "1",
            "0xff",
            "-3",
            "2.5",
            "'a'",
            '"\\u00e9"',
            "r'\\n'",
            "'''a'''",
            "true",
            "null",
            "[]",
            "9223372036854775807",
        ),
    ]
)


def expressions(depth: int) -> st.SearchStrategy[str]:
    if depth == 0:
        return LEAVES
    inner = expressions(depth - 1)
    signs = st.sampled_from(["+", "-", "*", "<", "<=", ">", ">=", "==", "!=", "&&", "||", "in"])
    forms = ["!{}", "-{}", "{}.a", "{}[0]", "has({}.a)", "[{}, 1]", "{}.size()", "type({})"]
    functions = ["size", "string", "json", "keys", "values", "first", "last", "sum", "join", "trim", "lowerAscii"]
    over = st.sampled_from(["inputs.a", "inputs.b", "[1, 2]", "[inputs.a, inputs.b]", "inputs"])
    macros = st.sampled_from(["map", "filter", "all", "exists", "exists_one"])
    return st.one_of(
        LEAVES,
        st.builds(lambda left, sign, right: f"({left} {sign} {right})", inner, signs, inner),
        st.builds(lambda form, text: form.format(f"({text})"), st.sampled_from(forms), inner),
        st.builds(lambda name, text: f"{name}({text})", st.sampled_from(functions), inner),
        st.builds(
            lambda where, name, each, body: f"{where}.{name}({each}, {body})",
            over,
            macros,
            st.sampled_from("xy"),
            inner,
        ),
        st.builds(lambda test, yes, no: f"({test} ? {yes} : {no})", inner, inner, inner),
    )


@given(expressions(3), st.dictionaries(st.sampled_from(["a", "b"]), JSON, max_size=2))
@example("inputs.a == inputs.b", {"a": True, "b": 1})
@example("inputs.a.exists(x, x)", {"a": [True, "a"]})
@example("inputs.a.all(x, x)", {"a": [False, "a"]})
@example("inputs.a.map(x, x)", {"a": {"b": 1, "a": 2}})
@example("inputs.a + 1", {"a": 2**63 - 1})
@example("size(inputs.a)", {"a": "é😀"})
@example("inputs.a < inputs.b", {"a": "é", "b": "😀"})
@settings(max_examples=3000, deadline=None)
def test_a_value_given_without_the_library_is_the_librarys(text: str, inputs: dict[str, Any]) -> None:
    ours = of_ours(text, inputs)
    if ours is UNSURE:
        return
    theirs = of_library(text, inputs)
    assert theirs is not FAILED, (text, inputs, ours)
    assert repr(ours) == repr(theirs), (text, inputs)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.n + 1 > 2 && inputs.name == 'x'", True),
        ("size(inputs.list) - 1", 2),
        ("inputs.list.map(one, one.name).join(', ')", "a, b, c"),
        ("inputs.list.filter(one, one.kind != 'f').size()", 1),
        ("inputs.list.exists(one, one.name in ['b'])", True),
        ("has(inputs.nope) ? 1 : -1", -1),
        ("inputs.list[1].name + '!'", "b!"),
        ("inputs.list.map(one, one.shares).sum()", 7),
        ("{'a': inputs.n}", UNSURE),
        ("inputs.n / 2", UNSURE),
        ("inputs.nope.x + 1", UNSURE),
    ],
)
def test_what_is_common_needs_no_library(text: str, value: Any) -> None:
    inputs = {
        "n": 3,
        "name": "x",
        "list": [
            {"name": "a", "kind": "f", "shares": 1},
            {"name": "b", "kind": "c", "shares": 2},
            {"name": "c", "kind": "f", "shares": 4},
        ],
    }
    assert of_ours(text, inputs) == value


def test_what_is_given_is_a_value_of_its_own() -> None:
    inputs = {"a": [{"b": [1]}]}
    found = parse("inputs.a.filter(x, true)").evaluate(Values({"inputs": inputs}))
    found[0]["b"].append(2)
    assert inputs == {"a": [{"b": [1]}]}


def test_an_error_is_told_as_the_library_tells_it() -> None:
    with pytest.raises(StepError, match=r"Unsupported operation: string \+ int"):
        parse("inputs.a + 1").evaluate(Values({"inputs": {"a": "x"}}))
    with pytest.raises(StepError, match="unknown key 'b'"):
        parse("inputs.b + 1").evaluate(Values({"inputs": {"a": "x"}}))
