"""What the host counts, handed to `headrace.telemetry`; `COUNTS` is for tests and for a look from inside."""

from collections import Counter
from typing import Final

from headrace import telemetry

COUNTS: Final[Counter[str]] = Counter()
_told: Final[dict[str, int]] = {}
"""What was told last of what is told again and again."""


def count(name: str, number: int = 1) -> None:
    """Add to a counter of this process, such as `repeats` or `isolated`."""
    COUNTS[name] += number


def appended(events: int, seconds: float) -> None:
    """Count one append."""
    COUNTS["appends"] += 1
    telemetry.appended(events, seconds)


def fenced(log: str) -> None:
    """Count a batch that the fence refused."""
    COUNTS["fenced"] += 1
    telemetry.append_refused(log)


def refused(kind: str, reason: str) -> None:
    """Count a message that was not acted upon."""
    COUNTS["refused"] += 1
    telemetry.message_refused(kind, reason)


def parked(log: str) -> None:
    """Count a message that was kept aside."""
    COUNTS["parked"] += 1
    telemetry.message_parked(log)


def lost(pool: str) -> None:
    """Count an attempt whose worker died."""
    COUNTS["attempts_lost"] += 1
    telemetry.attempt_lost(pool)


def decided(log: str, outcome: str, number: int = 1) -> None:
    """Count commands: `accepted`, `repeated`, or the type of the error that refused them."""
    telemetry.command_decided(log, outcome, number)


def tenure_over(log: str) -> None:
    """Count a tenure that ended against our will."""
    COUNTS["tenures_over"] += 1
    telemetry.lease_lost(log)


def holds(counts: dict[str, int]) -> None:
    """Tell how many partitions of each log this process owns."""
    for log, number in counts.items():
        if _told.get(log) != number:
            _told[log] = number
            telemetry.partitions_held(log, number)


def waits(pool: str, number: int) -> None:
    """Tell how many attempts of a pool wait in this owner."""
    if _told.get(f"waits {pool}") != number:
        _told[f"waits {pool}"] = number
        telemetry.steps_runnable(pool, number)
