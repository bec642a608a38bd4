"""What an expression may look at while it is evaluated (pure)."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

STEPS: Final = "steps"
ROOTS: Final = frozenset(
    {"inputs", "trigger", STEPS, "variables", "run", "item", "index", "output", "event", "iteration", "previous"}
)
"""Names that an expression may begin with. `item` and `index` exist inside a map, `output` in a step's own artifacts
and outputs, `event` in a trigger's `when`, `iteration` and `previous` in a loop's body."""


class Scope(Protocol):
    """Recorded values by name. A MissingError of either method passes through evaluation untouched."""

    def root(self, name: str) -> Any:
        """Give the value of a root other than `steps`; raises KeyError where there is none (`item` outside a map)."""
        ...

    def step(self, step_id: str) -> Mapping[str, Any]:
        """Give what is recorded of a step: `output`, `status`, `error` …; raises KeyError for an unknown step.

        Only the keys that an expression names are read, so `output` may be brought in lazily.
        """
        ...


class Values:
    """A scope over plain dicts, for constants, triggers and tests."""

    def __init__(
        self, roots: Mapping[str, Any] | None = None, steps: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self._roots = roots or {}
        self._steps = steps or {}

    def root(self, name: str) -> Any:
        """Give a root's value; raises KeyError."""
        return self._roots[name]

    def step(self, step_id: str) -> Mapping[str, Any]:
        """Give a step; raises KeyError."""
        return self._steps[step_id]


NOTHING: Final = Values()
"""The scope of a constant expression."""
