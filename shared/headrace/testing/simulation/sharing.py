"""Plans as rooms read them, made once a process instead of once a room: a digest never means another plan."""

from functools import cache
from typing import Any, Final

_graphs: Final[dict[str, Any]] = {}


def share_plans(room: Any) -> None:
    """Let a room of runs take the graphs that others have made, as soon as its own library holds the plan."""
    make = room._graph  # noqa: SLF001  (what it gives never changes)

    def graph(digest: str) -> Any:
        room._library.body(digest)  # noqa: SLF001  (raises MissingError, as the room itself would)
        known = _graphs.get(digest)
        if known is None:
            known = _graphs[digest] = make(digest)
        return known

    room._graph = cache(graph)  # noqa: SLF001  (as above)
