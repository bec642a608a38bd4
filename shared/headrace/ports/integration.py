"""The Integration port: an adapter to an outside system, as a set of operations.

Each operation becomes a tool `<integration>.<operation>` in the pool `integrations`, performed through ToolRunner with
the settings and secrets of the step's connection. A query gives `Rows`. Integrations are found by the entry point group
`headrace.integrations`. Base URLs come from the connection's settings, so that tests can point them at a server.
"""

from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from headrace.ports.tool import Tool


class Rows(BaseModel):
    """The result contract of every query (API_FACTS 9): all rows up to a stated cap, and where they came from."""

    rows: list[dict[str, Any]]
    source: str
    fetched_at: str
    complete: bool = True
    next_cursor: str | None = None


@runtime_checkable
class Integration(Protocol):
    """An adapter to an outside system."""

    name: str
    settings: type[BaseModel]
    secrets: tuple[str, ...]
    """Names of the secrets that a connection must bring, such as `token`."""

    def operations(self) -> list[Tool]:
        """Give the operations as tools named `<integration>.<operation>`; `effect` says query (read) or action."""
        ...
