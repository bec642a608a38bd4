"""Expressions: CEL over recorded values, with named errors and the same answer everywhere."""

import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from headrace.decider import MissingError
from headrace.errors import StepError, ValidationError
from headrace.expressions.expression import parse
from headrace.expressions.scope import Values

GATHER = {
    "status": "succeeded",
    "output": {
        "items": [{"name": "a", "size": 1}, {"name": "b", "size": 2}],
        "total": 3,
        "ratio": 1.5,
        "none": None,
        "k-k": "dash",
        "text": "Héllo World",
        "map": {"z": 1, "a": 2, "m": 3, "b": 4, "y": 5},
    },
}
SCOPE = Values(
    {"inputs": {"root": ".", "n": 2}, "trigger": {"source": "github"}, "item": {"path": "x.py"}},
    {"gather": GATHER, "skipped": {"status": "skipped", "output": None}},
)


def value(text: str, scope: Values = SCOPE) -> Any:
    return parse(text).evaluate(scope)


def refusal(text: str) -> str:
    with pytest.raises(ValidationError) as caught:
        parse(text)
    assert text in str(caught.value.details["expression"])
    return caught.value.message


def failure(text: str, scope: Values = SCOPE) -> str:
    with pytest.raises(StepError) as caught:
        value(text, scope)
    assert caught.value.type == "expression_error"
    assert text in caught.value.message
    return caught.value.message


def test_row_69_a_condition_over_steps_and_trigger_is_true_for_matching_data() -> None:
    text = "size(steps.gather.output.items) > 0 && trigger.source in ['github']"
    assert value(text) is True
    assert value(text, Values({"trigger": {"source": "cron"}}, {"gather": GATHER})) is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps.gather.output.text.contains('World')", True),
        ("steps.gather.output.text.startsWith('Hé')", True),
        ("'report.md'.endsWith('.md')", True),
        ("'ABC'.lowerAscii()", "abc"),
        ("'abc'.upperAscii()", "ABC"),
        ("'a,b'.split(',')", ["a", "b"]),
        ("'abc'.matches('^a.c$')", True),
        ("['a', 'b'].join(', ')", "a, b"),
        ("' a '.trim()", "a"),
        ("'aXa'.replace('X', '-')", "a-a"),
        ("'hello'.substring(1, 3)", "el"),
        ("steps.gather.output.items.map(i, i.size).sum()", 3),
        ("[[1], [2, [3]]].flatten()", [1, 2, [3]]),
        ("[1, 1, true, 1].distinct()", [1, True]),
        ("[3, 1, 2].sort()", [1, 2, 3]),
        ("[3, 1].first()", 3),
        ("[3, 1].last()", 1),
        ("steps.gather.output.map.keys()", ["a", "b", "m", "y", "z"]),
        ("steps.gather.output.map.values()", [2, 4, 3, 5, 1]),
        ("json({'b': 1, 'a': [true, null]})", '{"a":[true,null],"b":1}'),
        ("'%s has %d (%.1f)'.format(['x', 2, 1.25])", "x has 2 (1.2)"),
        ("math.greatest(1, 5, 3)", 5),
        ("max([1, 5, 3])", 5),
        ("string(3) + '!'", "3!"),
        ("int('12') + 1", 13),
        ("double('1.5')", 1.5),
        ("has(steps.gather.output.total)", True),
        ("has(steps.gather.output.nothing)", False),
        ("[1, 2, 3].exists(x, x > 2)", True),
        ("timestamp('2026-01-02T03:04:05Z')", "2026-01-02T03:04:05Z"),
        ("duration('1h30m')", "5400s"),
        ("b'ab'", "YWI="),
        ("{2: 'b', 1: 'a'}", {"1": "a", "2": "b"}),
        ("9223372036854775807", 2**63 - 1),
        ("steps.skipped.output == null", True),
    ],
)
def test_row_69_functions_work_as_methods_and_give_json(text: str, expected: object) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps.gather.output.items[1].name", "b"),
        ("steps.gather['output'].total", 3),
        ("steps.gather.output['k-k']", "dash"),
        ("inputs.root", "."),
        ("item.path", "x.py"),
        ("steps.gather.status", "succeeded"),
        ("steps.gather.output.none", None),
    ],
)
def test_a_plain_path_gives_what_the_library_gives_for_it(text: str, expected: object) -> None:
    assert parse(text).path is not None
    assert value(text) == expected
    assert value(f"[{text}][0]") == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps.gather.output.totel", "unknown key 'totel' in steps.gather.output; did you mean total?"),
        ("steps.gather.output.totel > 1", "unknown key 'totel' in steps.gather.output; did you mean total?"),
        ("steps.absent.output", "unknown step 'absent'"),
        ("steps.gather.output.items[7]", "index 7 is out of bounds: steps.gather.output.items has 2 elements"),
        ("steps.gather.output.none.x", "steps.gather.output.none is null and has no 'x'"),
        ("steps.gather.output.items.name", "is list and has no 'name'"),
        ("index", "there is no index here"),
        ("1 + 'a'", "type error"),
        ("steps.gather.output.total + 'a'", "type error"),
        ("steps.gather.output.items.map(i, i.nome)", "unknown key 'nome'"),
        ("1 / 0", "division by zero"),
        ("steps.gather.output.text.matches('[')", "regex"),
        ("['a', 1].join('-')", "join() joins texts, not int"),
        ("[].first()", "first() of an empty list"),
        ("lowerAscii(steps.gather.output)", "lowerAscii() needs a text, not map"),
        ("strings.quote(steps.gather.output.items)", "strings.quote() needs a text, not list"),
        ("'a'.split()", "split()"),
    ],
)
def test_row_69_what_goes_wrong_is_an_error_that_names_the_expression(text: str, said: str) -> None:
    assert said in failure(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps.a.output >", "column"),
        ("x +\n* 2", "line 2"),
        ("", "expression ''"),
        ("inptus.root", "unknown name 'inptus'; did you mean inputs?"),
        ("[1].map(x, x + y)", "unknown name 'y'"),
        ("steps", "followed by the id of a step"),
        ("steps[inputs.n]", "followed by the id of a step"),
        ("'a'.lowerAsci()", "unknown function 'lowerAsci'; did you mean lowerAscii?"),
        ("now()", "unknown function 'now'"),
        ("(" * 5000 + "1" + ")" * 5000, "nested too deeply"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_read(text: str, said: str) -> None:
    assert said.lower() in refusal(text).lower()


def test_an_endless_expression_is_refused() -> None:
    with pytest.raises(ValidationError, match="characters"):
        parse("1" + "+1" * 20_000)


@pytest.mark.parametrize(
    ("text", "references"),
    [
        ("steps.a.output.x + steps['b'].output", {("steps", "a"), ("steps", "b")}),
        ("inputs.root + trigger.x", {("inputs", None), ("trigger", None)}),
        ("[1].map(item, item + 1)", set()),
        ("[1].map(item, item + 1) + [item]", {("item", None)}),
        ("'steps.a.output' + \"inputs.x\" // steps.c", set()),
        ("steps.a.output.steps.inputs", {("steps", "a")}),
        ("math.greatest(index, 1)", {("index", None)}),
        ("{'a': steps.a.output.map(x, x.inputs)}", {("steps", "a")}),
    ],
)
def test_references_are_told_from_the_text(text: str, references: set[tuple[str, str | None]]) -> None:
    assert parse(text).references == references
    assert parse(text).constant is not bool(references)


class Lazy(Mapping[str, Any]):
    """A step whose output must be fetched first."""

    def __getitem__(self, key: str) -> Any:
        if key == "output":
            raise MissingError(["sha256:x"])
        return {"status": "succeeded"}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("status", "output"))

    def __len__(self) -> int:
        return 2


@pytest.mark.parametrize("text", ["steps.big.output.x", "size(steps.big.output)"])
def test_what_must_be_fetched_first_passes_through(text: str) -> None:
    with pytest.raises(MissingError):
        value(text, Values({}, {"big": Lazy()}))


@pytest.mark.parametrize("text", ["steps.big.status", "steps.big.status == 'succeeded'"])
def test_what_an_expression_does_not_name_is_not_read(text: str) -> None:
    assert value(text, Values({}, {"big": Lazy()})) in {"succeeded", True}


def test_maps_are_iterated_in_the_same_order_by_every_process() -> None:
    text = "steps.gather.output.map.map(k, k) + {'q': 1, 'p': 2, 'r': 3}.filter(k, true)"
    assert value(text) == ["a", "b", "m", "y", "z", "p", "q", "r"]
    program = f"""
from headrace.expressions.expression import parse
from headrace.expressions.scope import Values
import sys
sys.stdout.write(str(parse({text!r}).evaluate(Values({{}}, {{"gather": {GATHER!r}}}))))
"""
    outputs = {subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in "ab"}
    assert len(outputs) == 1


@pytest.mark.parametrize("bad", ["\ud800", 2**70, math.inf])
def test_odd_values_never_crash(bad: object) -> None:
    scope = Values({"inputs": {"x": bad}})
    assert value("inputs.x", scope) == bad
    try:
        value("[inputs.x]", scope)
    except StepError as error:
        assert error.type == "expression_error"  # noqa: PT017  (either an answer or this error)


def test_not_a_number_is_no_result() -> None:
    failure("inputs.x - inputs.x", Values({"inputs": {"x": math.inf}}))


def test_a_condition_that_is_no_truth_value_is_an_error() -> None:
    with pytest.raises(StepError, match="true or false"):
        parse("inputs.n").holds(SCOPE)
    assert parse("inputs.n == 2").holds(SCOPE) is True
