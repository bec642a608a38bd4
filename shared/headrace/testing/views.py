"""How the engine shows a run: what its projections say."""

from typing import Any

import msgspec

from headrace import codec
from headrace.codec import Raw


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """A step that has begun or is over."""

    id: str
    status: str
    attempt: int
    output: Any = None
    error_type: str | None = None
    error_message: str | None = None


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its rows stand: its status, what it waits for, its steps by id, its outputs."""

    id: str
    status: str
    waiting_for: str | None
    error_type: str | None
    error_message: str | None
    outputs: Any
    waiting: list[dict[str, Any]]
    steps: dict[str, StepView]


def run_view(row: dict[str, Any], steps: list[dict[str, Any]]) -> RunView:
    """Make a view of projection rows."""
    detail = row["detail"] or {}
    return RunView(
        id=row["id"],
        status=row["status"],
        waiting_for=row["waiting_for"],
        error_type=row["error_type"],
        error_message=row["error_message"],
        outputs=plain(detail.get("outputs")),
        waiting=list(detail.get("waiting") or ()),
        steps={step["step"]: _step_view(step) for step in steps},
    )


def plain(value: Any) -> Any:
    """Read what may still be written JSON."""
    return codec.loads(value) if isinstance(value, Raw) else value


def _step_view(row: dict[str, Any]) -> StepView:
    return StepView(
        id=row["step"],
        status=row["status"],
        attempt=row["attempt"] or 0,
        output=plain(row["output"]),
        error_type=row["error_type"],
        error_message=row["error_message"],
    )
