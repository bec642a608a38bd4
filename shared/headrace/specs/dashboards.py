"""What a dashboard's metrics and views must be to each other (pure)."""

from collections.abc import Iterator

from headrace.expressions.near import hint
from headrace.specs.models import DashboardSpec, Metric, View
from headrace.specs.problems import Path

Said = tuple[Path, str]


def dashboard_problems(spec: DashboardSpec) -> Iterator[Said]:
    """Say what is wrong between metrics and views."""
    known: dict[str, int] = {}
    for number, metric in enumerate(spec.metrics):
        path: Path = ("spec", "metrics", number)
        if metric.id in known:
            yield (*path, "id"), f"duplicate metric id {metric.id!r}"
        known.setdefault(metric.id, number)
        yield from _metric(metric, path)
    seen: set[str] = set()
    for number, view in enumerate(spec.views):
        path = ("spec", "views", number)
        if view.id in seen:
            yield (*path, "id"), f"duplicate view id {view.id!r}"
        seen.add(view.id)
        yield from _view(view, path, known)


def _metric(metric: Metric, path: Path) -> Iterator[Said]:
    if metric.aggregate == "count" and metric.field is not None:
        yield (*path, "field"), f"metric {metric.id!r}: a count takes no field; it counts rows"
    if metric.aggregate != "count" and metric.field is None:
        yield path, f"metric {metric.id!r}: {metric.aggregate} needs the field to work on"


def _view(view: View, path: Path, metrics: dict[str, int]) -> Iterator[Said]:
    if view.type == "table":
        if view.metric is not None:
            yield (*path, "metric"), f"view {view.id!r}: a table shows the rows of a source and takes no metric"
        if view.source is None:
            yield path, f"view {view.id!r}: a table needs a source"
        return
    if view.metric is None:
        yield path, f"view {view.id!r}: a {view.type} needs a metric"
    elif view.metric not in metrics:
        yield (*path, "metric"), f"view {view.id!r}: unknown metric {view.metric!r}{hint(view.metric, metrics)}"
    for name in ("source", "columns", "sort", "limit"):
        if name in view.model_fields_set:
            yield (*path, name), f"view {view.id!r}: a {view.type} takes no {name}; that is for tables"
