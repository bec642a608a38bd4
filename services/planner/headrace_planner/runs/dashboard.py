"""The result of a dashboard's run: per view its status, rows, error, source and time (pure)."""

from typing import Any

from headrace import codec
from headrace.decider import Library
from headrace.errors import StepError
from headrace.vocabulary import StepStatus
from headrace_planner.runs.scope import RunScope
from headrace_planner.runs.state import Run


def dashboard_result(run: Run, library: Library) -> dict[str, Any]:
    """Give each view's result by its id."""
    scope = RunScope(run, library)
    return {str(view["id"]): _view(run, scope, view) for view in run.graph.plan.views}


def _view(run: Run, scope: RunScope, view: dict[str, Any]) -> dict[str, Any]:
    step_id = str(view["step"])
    known = run.peek(step_id)
    if known.status != StepStatus.SUCCEEDED:
        error = (
            None
            if known.error is None
            else {"type": known.error.type, "message": known.error.message, "details": known.error.details}
        )
        return {"status": str(known.status), "rows": None, "error": error, "source": None, "fetched_at": None}
    output = scope.step(step_id)["output"]
    base = {
        "status": "succeeded",
        "error": None,
        "source": output.get("source"),
        "fetched_at": output.get("fetched_at"),
        "complete": output.get("complete", True),
    }
    try:
        found = _rows(step_id, output)
        if view.get("aggregate"):
            value = _aggregate(found, str(view["aggregate"]), view.get("field"))
            return {**base, "value": value, "rows": [{"value": value}]}
        return {**base, "rows": _table(found, view)}
    except StepError as problem:
        error = {"type": problem.type, "message": problem.message, "details": problem.details}
        return {**base, "status": "failed", "rows": None, "error": error}


def _rows(step_id: str, output: dict[str, Any]) -> list[dict[str, Any]]:
    found = output.get("rows", [])
    if isinstance(found, list) and all(isinstance(row, dict) for row in found):
        return found
    message = f"the rows of view {step_id!r} are no list of objects"
    raise StepError(message, type="validation_error", details={"view": step_id})


def _aggregate(rows: list[dict[str, Any]], how: str, field: Any) -> float | int | None:
    if how == "count":
        return len(rows)
    values: list[int | float] = [row[field] for row in rows if row.get(field) is not None]
    odd = next((value for value in values if isinstance(value, bool) or not isinstance(value, int | float)), None)
    if odd is not None:
        message = f"{how} of {field!r} needs numbers, and one row has {codec.dumps(odd).decode()}"
        raise StepError(message, type="validation_error", details={"field": field})
    if not values:
        return 0 if how == "sum" else None
    try:
        return _of(how, values)
    except OverflowError as problem:
        message = f"{how} of {field!r} is a number too large to be told: {problem}"
        raise StepError(message, type="validation_error", details={"field": field}) from problem


def _of(how: str, values: list[int | float]) -> float | int:
    match how:
        case "sum":
            return sum(values)
        case "avg":
            return sum(values) / len(values)
        case "min":
            return min(values)
        case "max":
            return max(values)
        case _:
            message = f"unknown aggregate {how!r}"
            raise StepError(message, type="validation_error")


def _table(rows: list[dict[str, Any]], view: dict[str, Any]) -> list[dict[str, Any]]:
    sort = view.get("sort")
    if sort:
        field, descending = (str(sort).removeprefix("-"), str(sort).startswith("-"))
        rows = sorted(rows, key=lambda row: _place(row.get(field)), reverse=descending)
    if view.get("limit") is not None:
        rows = rows[: int(view["limit"])]
    columns = view.get("columns")
    return [{name: row.get(name) for name in columns} for row in rows] if columns else list(rows)


def _place(value: Any) -> tuple[int, Any]:
    """Give where a value stands among others: numbers, then texts, then all else as it is written, then what is missing."""
    if value is None:
        return 3, ""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 2, codec.dumps(value)
    return (1, value) if isinstance(value, str) else (0, value)
