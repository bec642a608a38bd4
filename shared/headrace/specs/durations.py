"""Durations with units: `30s`, `24h`, `1h30m`, `500ms` (pure)."""

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
DAYS_FROM_S: Final = 2 * 86_400
"""From here on days are written as days: 24h stays 24h."""
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


def write(total_s: float) -> str:
    """Write seconds as a duration, in the largest units that leave nothing over: 5400 becomes `1h30m`."""
    left = round(total_s * 1000)
    text = ""
    days_ms = 86_400_000 if left >= DAYS_FROM_S * 1000 else left + 1
    for unit, size_ms in (("d", days_ms), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, left = divmod(left, size_ms)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    PlainSerializer(write, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", "examples": ["30s", "24h", "1h30m"]}),
]
