"""What callers receive about workers, as models; see `shapes`."""

from typing import Any, Final, Literal

from headrace_api.shapes import Shape

STATUSES: Final = ("idle", "processing", "draining", "stale")


class HeldAttempt(Shape):
    """An attempt in a worker's hands; of which run it is, only the run's own workspace sees."""

    attempt_id: str
    tool: str
    since: str
    begun: bool
    progress: float | None
    run_id: str | None
    step: str | None
    item: int | None
    message: str | None


class Blockage(Shape):
    """A worker's event loop that does not answer; `tool` is empty when no tool holds it up."""

    since: str
    tool: str
    attempt_id: str


class Worker(Shape):
    """A worker that was heard of lately."""

    id: str
    service: str
    host: str
    status: Literal["idle", "processing", "draining", "stale"]
    pools: list[str]
    slots: int
    holding: list[HeldAttempt]
    blocked: Blockage | None
    abandoned: list[str]
    done_total: int
    failed_total: int
    cancelled_total: int
    started_at: str | None
    last_seen_at: str
    verified: bool


class Totals(Shape):
    """All workers together. `done`, `failed` and `cancelled` count attempts since each worker began."""

    workers: int
    idle: int
    processing: int
    draining: int
    stale: int
    blocked: int
    slots: int
    holding: int
    done: int
    failed: int
    cancelled: int


class Numbers(Shape):
    """How work stands: runs of the caller's workspace, and what workers did; no rate where nothing was done yet."""

    workers_active: bool
    active_runs: int
    queued_runs: int
    totals: Totals
    failure_rate: float | None


class Workers(Numbers):
    """All workers; `workers_active` says whether any of them lives."""

    items: list[Worker]
    next_cursor: None = None


class PoolHealth(Shape):
    """A pool: living workers that take work from it, their slots, and what they hold."""

    workers: int
    slots: int
    holding: int
    last_served_at: str | None


class WorkersHealth(Numbers):
    """Whether work can be done: `healthy`, `degraded` (see `problems`), or `down` (nobody works)."""

    status: Literal["healthy", "degraded", "down"]
    pools: dict[str, PoolHealth]
    problems: list[str]


class ActedOn(Shape):
    """What came of an action on a worker; `worker` is as it stood when it answered."""

    id: str
    action: str
    worker: Worker | None = None
    latency_ms: float | None = None
    lost_attempts: int | None = None


class CleanedUp(Shape):
    """Which workers were forgotten, and which pools that nobody serves any more."""

    action: str
    forgotten: list[str]
    pools: list[str]


def totals(views: list[dict[str, Any]]) -> dict[str, int]:
    """Add up what workers say."""
    count = {status: sum(1 for each in views if each["status"] == status) for status in STATUSES}
    sums = {name: sum(each[f"{name}_total"] for each in views) for name in ("done", "failed", "cancelled")}
    live = [each for each in views if each["status"] != "stale"]
    return {
        "workers": len(views),
        **count,
        "blocked": sum(1 for each in live if each["blocked"] is not None),
        "slots": sum(each["slots"] for each in live),
        "holding": sum(len(each["holding"]) for each in live),
        **sums,
    }
