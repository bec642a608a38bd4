"""Write the dashboard: `python deploy/grafana/make_dashboard.py` after a change here; a test sees that it was done."""

import json
from pathlib import Path
from typing import Any, Final

TARGET: Final = Path(__file__).with_name("headrace.json")
PROMETHEUS: Final = {"type": "prometheus", "uid": "${source}"}
WIDTH: Final = 8
HEIGHT: Final = 7
COLUMNS: Final = 3
RATE: Final = "[$__rate_interval]"

ODD: Final = {
    "headrace_messages_refused_total": "refused",
    "headrace_parked_events_total": "parked",
    "headrace_redeliveries_total": "again",
    "headrace_bus_dropped_total": "dropped",
}
"""What should not happen often to messages."""

PANELS: Final[tuple[tuple[str, str, str, str], ...]] = (
    # title, unit, expression, legend
    ("Runs ended a minute", "short", f"60 * sum by (status) (rate(headrace_run_duration_seconds_count{RATE}))", "{{status}}"),
    ("Steps ended a second", "short", f"sum by (kind, status) (rate(headrace_step_duration_seconds_count{RATE}))", "{{kind}} {{status}}"),
    ("Commands a second", "short", f"sum by (log, outcome) (rate(headrace_commands_total{RATE}))", "{{log}} {{outcome}}"),
    ("Run duration, 95 of 100", "s", f"histogram_quantile(0.95, sum by (le) (rate(headrace_run_duration_seconds_bucket{RATE})))", "runs"),
    ("Attempt duration, 95 of 100", "s", f"histogram_quantile(0.95, sum by (tool, le) (rate(headrace_attempt_duration_seconds_bucket{RATE})))", "{{tool}}"),
    ("Wait for a worker, 95 of 100", "s", f"histogram_quantile(0.95, sum by (pool, le) (rate(headrace_schedule_to_start_seconds_bucket{RATE})))", "{{pool}}"),
    ("Steps that wait for a worker", "short", "sum by (pool) (headrace_steps_runnable)", "{{pool}}"),
    ("Workers heard", "short", "max(headrace_workers_alive)", "workers"),
    ("Attempts that lost their worker", "short", f"sum by (pool) (increase(headrace_attempts_lost_total{RATE}))", "{{pool}}"),
    ("Partitions held", "short", "sum by (log, pod) (headrace_partitions_held)", "{{log}} {{pod}}"),
    ("Leases lost, appends refused", "short", f"sum by (log) (increase(headrace_leases_lost_total{RATE})) + sum by (log) (increase(headrace_append_conflicts_total{RATE}))", "{{log}}"),
    ("Append, 99 of 100", "s", f"histogram_quantile(0.99, sum by (le) (rate(headrace_append_duration_seconds_bucket{RATE})))", "append"),
    ("Events in an append, median", "short", f"histogram_quantile(0.5, sum by (le) (rate(headrace_append_events_bucket{RATE})))", "events"),
    ("NATS answers", "short", "min by (service, pod) (headrace_bus_connected)", "{{service}} {{pod}}"),
    ("Messages refused, parked, again, dropped", "short", " or ".join(f'label_replace(sum(increase({metric}{RATE})), "what", "{what}", "", "")' for metric, what in ODD.items()), "{{what}}"),
    ("Answers of the api a second", "short", f"sum by (status) (rate(headrace_http_request_duration_seconds_count{RATE}))", "{{status}}"),
    ("Answer of the api, 95 of 100", "s", f"histogram_quantile(0.95, sum by (route, le) (rate(headrace_http_request_duration_seconds_bucket{RATE})))", "{{route}}"),
    ("Streams that take no writes", "short", "max by (service) (headrace_bus_streams_refusing)", "{{service}}"),
    ("Streams made on NATS", "short", f"sum by (service) (increase(headrace_bus_ensure_total{RATE}))", "{{service}}"),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Give the dashboard as Grafana imports it."""
    return {
        "uid": "headrace",
        "title": "headrace",
        "tags": ["headrace"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": [_panel(number, *given) for number, given in enumerate(PANELS)],
    }


def _panel(number: int, title: str, unit: str, expression: str, legend: str) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": PROMETHEUS,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": column * WIDTH, "y": row * HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": "A",
                "datasource": PROMETHEUS,
                "expr": expression,
                "legendFormat": legend,
                "exemplar": "_bucket" in expression,
            }
        ],
    }


def text() -> str:
    """Give the file's content."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
