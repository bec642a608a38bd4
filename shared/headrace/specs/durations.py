"""Durations with units: `30s`, `24h`, `1h30m`, `500ms` (pure)."""

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from headrace.plans.durations import duration

UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
DURATION_S_MAX: Final = 10 * 365 * 86_400.0
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")


def seconds(value: Any) -> float:
    """Give the seconds of a duration; raises ValueError that says what is expected."""
    text = value.strip() if isinstance(value, str) else ""
    if not _WHOLE.fullmatch(text):
        message = f"{value!r} is not a duration; write one with units, such as 30s, 5m, 24h or 1h30m"
        if isinstance(value, int | float) and value <= 0:
            message = f"must be more than 0; {message}"
        raise ValueError(message)
    total = sum(float(number) * UNITS_S[unit] for number, unit in _PART.findall(text))
    total = round(total, 3)
    if not 0 < total <= DURATION_S_MAX:
        message = f"{value} must be more than 0 and at most 10 years"
        raise ValueError(message)
    return total


SCHEMA: Final = {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", "examples": ["30s", "24h", "1h30m"]}
Duration = Annotated[
    float,
    BeforeValidator(seconds),
    PlainSerializer(duration, return_type=str),
    WithJsonSchema(SCHEMA),
]
