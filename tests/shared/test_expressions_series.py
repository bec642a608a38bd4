"""A list that is not in memory is to an expression what the list would be, and is not made into one for being counted."""

from collections.abc import Iterator
from typing import Any

import pytest

from headrace.errors import StepError
from headrace.expressions.expression import parse
from headrace.expressions.scope import Values
from headrace.expressions.series import Series
from headrace.expressions.template import template

LIST: list[Any] = [{"n": 1}, {"n": 2}, None, {"n": 3}]


class Recorded:
    """A list that notes how it was read."""

    def __init__(self, values: list[Any]) -> None:
        self.values, self.read, self.walked = values, 0, 0

    @property
    def series(self) -> Series:
        return Series(len(self.values), self._at, self._every)

    def _at(self, index: int) -> Any:
        self.read += 1
        return self.values[index]

    def _every(self) -> Iterator[Any]:
        self.walked += 1
        return iter(self.values)


@pytest.mark.parametrize(
    "text",
    [
        "steps.m.output",
        "steps.m.output[1].n",
        "size(steps.m.output)",
        "steps.m.output.size()",
        "steps.m.output.filter(x, x != null)",
        "steps.m.output.filter(x, x != null).map(x, x.n)",
        "steps.m.output.map(x, x == null ? 0 : x.n).sum()",
        "steps.m.output.exists(x, x == null)",
        "steps.m.output.all(x, x == null || x.n > 0)",
        "null in steps.m.output",
        "steps.m.output + [1]",
        "steps.m.output == steps.m.output",
        "[steps.m.output, 1]",
        "{'a': steps.m.output}",
        "steps.m.output.first()",
        "steps.m.output.last().n",
        "json(steps.m.output)",
        "has(steps.m.output) ? steps.m.output : []",
    ],
)
def test_an_expression_gives_what_it_gives_for_the_list(text: str) -> None:
    expected = parse(text).evaluate(Values({}, {"m": {"output": LIST}}))
    found = parse(text).evaluate(Values({}, {"m": {"output": Recorded(LIST).series}}))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("text", ["steps.m.output[9]", "steps.m.output.n", "steps.m.output + 1", "steps.m.output[-1]"])
def test_an_error_is_the_one_that_the_list_has(text: str) -> None:
    with pytest.raises(StepError) as expected:
        parse(text).evaluate(Values({}, {"m": {"output": LIST}}))
    with pytest.raises(StepError) as found:
        parse(text).evaluate(Values({}, {"m": {"output": Recorded(LIST).series}}))
    assert found.value.message == expected.value.message


def test_counting_reads_nothing_and_an_item_reads_one() -> None:
    kept = Recorded(LIST)
    scope = Values({}, {"m": {"output": kept.series}})
    assert parse("size(steps.m.output)").evaluate(scope) == len(LIST)
    assert (kept.read, kept.walked) == (0, 0)
    assert parse("steps.m.output[3].n").evaluate(scope) == LIST[3]["n"]
    assert (kept.read, kept.walked) == (1, 0)


def test_in_a_template_it_is_written_as_the_list() -> None:
    scope = Values({}, {"m": {"output": Recorded(LIST).series}})
    assert template({"a": "{{ steps.m.output }}", "b": "n: {{ steps.m.output }}"}).resolve(scope) == {
        "a": LIST,
        "b": 'n: [{"n":1},{"n":2},null,{"n":3}]',
    }
