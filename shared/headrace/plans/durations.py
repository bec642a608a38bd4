"""Writing durations as people do (pure)."""

from typing import Final

DAYS_FROM_S: Final = 2 * 86_400
"""From here on days are written as days: 24h stays 24h."""


def duration(total_s: float) -> str:
    """Write seconds as a duration, in the largest units that leave nothing over: 5400 becomes `1h30m`."""
    left = round(total_s * 1000)
    days_ms = 86_400_000 if left >= DAYS_FROM_S * 1000 else left + 1
    text = ""
    for unit, size_ms in (("d", days_ms), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, left = divmod(left, size_ms)
        text += f"{count}{unit}" if count else ""
    return text or "0s"
