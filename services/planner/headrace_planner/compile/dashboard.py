"""Compiling a dashboard: one read per distinct source, and what each view shows of it (pure)."""

from typing import Any, Final

from headrace import codec
from headrace.errors import ToolNotFoundError
from headrace.plans.model import CallStep, PlanStep
from headrace.specs.models import DashboardSpec, SourceCall
from headrace.specs.problems import Path
from headrace.vocabulary import Effect
from headrace_planner.compile.arguments import WRONG, Said, argument_problems
from headrace_planner.compile.calls import Catalogue, not_found, use_problems

READ_TIMEOUT_S: Final = 60.0


def dashboard_steps(spec: DashboardSpec) -> tuple[list[PlanStep], list[dict[str, Any]]]:
    """Give the steps and views; the document has no problems. A step has the id of the first view that reads it."""
    metrics = {metric.id: metric for metric in spec.metrics}
    steps: dict[bytes, PlanStep] = {}
    views: list[dict[str, Any]] = []
    for view in spec.views:
        metric = metrics.get(view.metric or "")
        source = metric.source if metric is not None else view.source
        assert source is not None, "validation sees to it"
        key = codec.canonical(source.model_dump())
        step = steps.setdefault(key, _read(view.id, source))
        whole: dict[str, Any] = {
            "id": view.id,
            "type": view.type,
            "step": step.id,
            "title": view.title or None,
            "metric": view.metric,
            "aggregate": metric.aggregate if metric is not None else None,
            "field": metric.field if metric is not None else None,
            "columns": view.columns or None,
            "sort": view.sort,
            "limit": view.limit,
        }
        views.append({name: value for name, value in whole.items() if value is not None})
    return list(steps.values()), views


def dashboard_catalogue_problems(spec: DashboardSpec, catalogue: Catalogue) -> list[Said]:
    """Say what the catalogue has against the sources of a dashboard."""
    said: list[Said] = []
    sources: list[tuple[Path, SourceCall]] = [
        (("spec", "metrics", number, "source"), metric.source) for number, metric in enumerate(spec.metrics)
    ]
    sources += [
        (("spec", "views", number, "source"), view.source)
        for number, view in enumerate(spec.views)
        if view.source is not None
    ]
    for path, source in sources:
        name = _tool(source)
        manifest = catalogue.get(name)
        if manifest is None:
            said.append((path, not_found(name, catalogue), ToolNotFoundError.type))
            continue
        said += use_problems(manifest, path)
        if manifest.effect != Effect.READ:
            said.append((path, f"a dashboard only reads; the effect of {name} is {manifest.effect}", WRONG))
        said += argument_problems(name, manifest.input_schema, source.with_, (*path, "with"))
    return said


def _tool(source: SourceCall) -> str:
    return f"{source.integration}.{source.operation}"


def _read(step_id: str, source: SourceCall) -> PlanStep:
    body = CallStep(tool=_tool(source), arguments=dict(source.with_), connection=source.connection)
    return PlanStep(id=step_id, kind="integration", body=body, timeout_s=READ_TIMEOUT_S, on_error="continue")
