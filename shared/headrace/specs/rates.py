"""Rate limits as people write them: `100/1m` is a hundred attempts in any minute (pure)."""

from typing import Any, Final

from headrace.errors import ValidationError
from headrace.events.base import RateLimit
from headrace.plans.durations import duration
from headrace.specs.durations import seconds
from headrace.vocabulary import RATE_LIMIT_MAX, RATE_PERIOD_S_MAX

SETTING: Final = "rate_limit"
"""The setting of a connection that limits everything done over it."""


def parse(said: Any) -> RateLimit:
    """Read a rate limit such as `100/1m` or `5/1s`; raises ValidationError that says what is expected."""
    count, _, period = said.partition("/") if isinstance(said, str) else ("", "", "")
    try:
        period_s = seconds(period)
    except ValueError:
        period_s = 0.0
    if not count.strip().isdecimal() or not 0 < period_s <= RATE_PERIOD_S_MAX:
        message = f"{said!r} is not a rate limit; write how many in which time, such as 100/1m or 5/1s"
        raise ValidationError(message, details={"field": SETTING})
    limit = int(count)
    if not 0 < limit <= RATE_LIMIT_MAX:
        message = f"a rate limit lets 1 to {RATE_LIMIT_MAX} attempts begin in its period, not {limit}"
        raise ValidationError(message, details={"field": SETTING})
    return RateLimit(limit=limit, period_s=period_s)


def written(rate: RateLimit) -> str:
    """Write a rate limit as people do."""
    return f"{rate.limit}/{duration(rate.period_s)}"
