"""Events that stand for several, taken apart where they are read as JSON (pure). Those read as events have `Event.parts`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

TOGETHER: Final[Mapping[str, str]] = {"steps.succeeded": "step.succeeded"}
"""What each of the `results` of an event would be by itself."""


def parts_of(kind: str, data: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    """Give the events that one stands for, each with its name, in order; of most only itself."""
    single = TOGETHER.get(kind)
    return ((kind, data),) if single is None else [(single, result) for result in data["results"]]
