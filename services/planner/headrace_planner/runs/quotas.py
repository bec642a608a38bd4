"""Which rate limit holds for a step: its connection's own setting, else what its tool says of itself (pure)."""

import msgspec

from headrace import codec, ids
from headrace.errors import ValidationError
from headrace.events.base import RateLimit
from headrace.plans.model import CallStep, ToolPin
from headrace.specs.rates import SETTING, parse
from headrace.vocabulary import WaitingFor
from headrace_planner.runs.graph import tool_name
from headrace_planner.runs.state import Run


class Quota(msgspec.Struct, frozen=True):
    """A rate limit as the key that every run asks: `key` names it for people, `limit` attempts in `period_ms`."""

    flow_id: str
    key: str
    limit: int
    period_ms: int


def quota_of(run: Run, step_id: str) -> Quota | None:
    """Give the rate limit that attempts of a step wait for, if there is one; made once."""
    if step_id not in run.graph.limitable:
        return None
    if step_id not in run.quotas:
        run.quotas[step_id] = _made(run, step_id)
    known: Quota | None = run.quotas[step_id]
    return known


def _made(run: Run, step_id: str) -> Quota | None:
    pin, step = run.graph.pins[step_id], run.graph.index[step_id]
    named = step.body.connection if isinstance(step.body, CallStep) else None
    connection, own = _connection(run, pin, named)
    key = tool_name(step) + (f" over {connection}" if connection else "")
    rate = pin.rate_limit
    if own is not None:
        key, rate = f"connection {connection}", own
    if rate is None:
        return None
    flow_id = ids.flow_key(run.data.workspace, WaitingFor.RATE_LIMIT, key)
    return Quota(flow_id, key, rate.limit, int(rate.period_s * 1000))


def _connection(run: Run, pin: ToolPin, named: str | None) -> tuple[str, RateLimit | None]:
    """Name the connection that a step uses, and give the limit that its settings set."""
    integration = pin.requires_connection
    if integration is None:
        return "", None
    known = codec.loads(run.queued.connections) or {}
    connection = known.get(f"{integration}/{named}" if named else integration) or {}
    name = str(connection.get("name") or integration)
    title = integration if name == integration else f"{integration}/{name}"
    said = (connection.get("settings") or {}).get(SETTING)
    try:
        return title, None if said is None else parse(said)
    except ValidationError:
        return title, None  # refused when the run was created; a run of before keeps its tool's own limit
