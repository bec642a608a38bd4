"""Views of a dashboard: what is made of the rows that an integration gave, whatever is in them."""

from typing import Any

import pytest

from headrace import codec
from headrace.plans.model import CallStep, Plan, PlanStep, ToolPin
from tests.planner.runs_kit import Sim

PIN = ToolPin(version="1", digest="sha256:g", effect="read", access="auto", pool="integrations", idempotent=True)


def shown(rows: Any, **view: Any) -> Any:
    """Give the result of a dashboard of one view."""
    steps = (PlanStep(id="v", kind="integration", body=CallStep(tool="read"), on_error="continue"),)
    sim = Sim(
        Plan(name="d", kind="Dashboard", steps=steps, tools={"read": PIN}, views=({"id": "v", "step": "v", **view},))
    ).create()
    assert sim.report("v", {"rows": rows, "source": "github", "fetched_at": "x"}).status == "succeeded"
    return codec.loads(sim.run.data.outputs)["v"]


def values(*found: Any) -> list[dict[str, Any]]:
    return [{"n": value} for value in found]


@pytest.mark.parametrize(
    ("how", "found", "value"),
    [
        ("count", (1, None, "x"), 3),
        ("sum", (1, 2.5, None), 3.5),
        ("sum", (), 0),
        ("avg", (1, 4), 2.5),
        ("avg", (None,), None),
        ("min", (3, 1, 2), 1),
        ("max", (3, 1, 2), 3),
        ("max", (), None),
    ],
)
def test_rows_are_aggregated(how: str, found: tuple[Any, ...], value: Any) -> None:
    result = shown(values(*found), aggregate=how, field="n")
    assert (result["value"], result["rows"], result["status"]) == (value, [{"value": value}], "succeeded")


@pytest.mark.parametrize(
    ("rows", "view", "says"),
    [
        (values(1, "two"), {"aggregate": "sum", "field": "n"}, "sum of 'n' needs numbers, and one row has \"two\""),
        (values(1, True), {"aggregate": "max", "field": "n"}, "and one row has true"),
        (values(1), {"aggregate": "median", "field": "n"}, "unknown aggregate 'median'"),
        (values(10**400, 1), {"aggregate": "avg", "field": "n"}, "too large to be told"),
        ([1, 2], {}, "no list of objects"),
        ("many", {"aggregate": "count"}, "no list of objects"),
    ],
)
def test_what_cannot_be_shown_fails_its_view_alone_and_says_why(rows: Any, view: dict[str, Any], says: str) -> None:
    result = shown(rows, **view)
    assert (result["status"], result["rows"]) == ("failed", None)
    assert says in result["error"]["message"]


def test_rows_are_sorted_by_what_they_mean_whatever_they_hold() -> None:
    assert [row["n"] for row in shown(values(10.5, 2, None, 3, 2.5), sort="n")["rows"]] == [2, 2.5, 3, 10.5, None]
    assert [row["n"] for row in shown(values(1, 3, 2), sort="-n", limit=2)["rows"]] == [3, 2]
    odd = values({"b": 1}, {"a": 2}, [2], "text", True, 1, None)
    assert [row["n"] for row in shown(odd, sort="n")["rows"]] == [1, "text", [2], True, {"a": 2}, {"b": 1}, None]


def test_a_view_shows_its_columns_alone() -> None:
    rows = [{"a": 1, "b": 2}, {"a": 3}]
    assert shown(rows, columns=["b"])["rows"] == [{"b": 2}, {"b": None}]
    assert shown(rows)["rows"] == rows
