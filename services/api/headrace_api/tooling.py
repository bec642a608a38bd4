"""Tools as callers see them, and one call of a tool as a document (pure)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace.events.base import RateLimit
from headrace.specs.rates import written
from headrace_api import views

SPEC_API: Final = "headrace/v1"
NOT_A_NAME: Final = re.compile(r"[^a-z0-9]+")
OPENING: Final = "{{"


def tool(row: Mapping[str, Any], stats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give a tool: its row of the catalogue, and what the workers that live say about it, taken together."""
    manifest = row["manifest"] or {}
    limit = manifest.get("rate_limit")
    return {
        "name": row["name"],
        "version": row["version"],
        "description": manifest.get("description", ""),
        "digest": row["digest"],
        "kind": row["kind"],
        "effect": row["effect"],
        "access": row["access"],
        "pool": row["pool"],
        "idempotent": bool(manifest.get("idempotent")),
        "requires_connection": manifest.get("requires_connection"),
        "rate_limit": None if limit is None else written(RateLimit(**limit)),
        "input_schema": manifest.get("input_schema") or {},
        "output_schema": manifest.get("output_schema") or {},
        "announced_at": views.at(row["announced_at"]),
        **together(stats),
    }


def together(stats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up what several workers say: counts are sums, the average is weighted, the rest is the latest one's."""
    if not stats:
        return {
            "state": "unavailable",
            "reason": "no worker that lives offers it",
            "success_count": 0,
            "error_count": 0,
            "last_execution_time_ms": None,
            "avg_execution_time_ms": None,
            "last_used": None,
            "workers": [],
        }
    latest = max(stats, key=lambda each: each.get("last_used") or 0)
    averages = [
        (each["avg_execution_time_ms"], _calls(each)) for each in stats if each.get("avg_execution_time_ms") is not None
    ]
    weight = sum(calls for _, calls in averages)
    return {
        "state": latest.get("state") or "loaded",
        "reason": latest.get("reason") or None,
        "success_count": sum(each.get("success_count") or 0 for each in stats),
        "error_count": sum(each.get("error_count") or 0 for each in stats),
        "last_execution_time_ms": latest.get("last_execution_time_ms"),
        "avg_execution_time_ms": sum(average * calls for average, calls in averages) / weight if weight else None,
        "last_used": views.at(latest["last_used"])
        if isinstance(latest.get("last_used"), int)
        else latest.get("last_used"),
        "workers": sorted(str(each.get("worker")) for each in stats),
    }


def _calls(stats: Mapping[str, Any]) -> int:
    return int((stats.get("success_count") or 0) + (stats.get("error_count") or 0))


def as_spec(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Write one call of a tool as a ToolPlan; arguments are values, so template brackets in them stand for themselves."""
    return {
        "apiVersion": SPEC_API,
        "kind": "ToolPlan",
        "metadata": {"name": "call-" + NOT_A_NAME.sub("-", name.lower()).strip("-")},
        "spec": {"steps": [{"id": "call", "tool": name, "with": literal(dict(arguments))}]},
    }


def literal(value: Any) -> Any:
    """Write a value so that a template resolves to itself."""
    if isinstance(value, str):
        return value.replace(OPENING, "\\" + OPENING)
    if isinstance(value, dict):
        return {key: literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [literal(item) for item in value]
    return value
