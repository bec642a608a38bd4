"""What the host counts: one object behind one module, so that exporting it is one edit."""

from collections import Counter
from typing import Final

COUNTS: Final[Counter[str]] = Counter()


def count(name: str, number: int = 1) -> None:
    """Add to a counter of this process, such as `appends` or `refused`."""
    COUNTS[name] += number
