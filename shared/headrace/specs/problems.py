"""What is wrong with a document: every problem with its place, listed together (pure)."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from headrace.errors import MissingArgumentError, ToolNotFoundError, ValidationError

Path = tuple[str | int, ...]
PROBLEMS_MAX = 200
MESSAGE_CHARS_MAX: Final = 1_000
BEGINNING_CHARS: Final = 500
"""How much of the beginning of a longer message is told; the rest is of its end, where the remedy stands."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One problem: where (`spec.steps[2].with`, and line and column from 1, when known) and what.

    `type` is an error type of VOCABULARY: validation_error, tool_not_found, missing_argument, unknown_dependency,
    cycle_detected or expression_error.
    """

    path: str
    message: str
    type: str = "validation_error"
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}: " if self.line is not None else ""
        return f"{place}{self.path}: {self.message}" if self.path else f"{place}{self.message}"

    def as_dict(self) -> dict[str, Any]:
        """Give the problem as JSON."""
        return dict(msgspec.to_builtins(self))


class Problems(msgspec.Struct, frozen=True):
    """All problems of a document, in the document's order; false when there are none."""

    items: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.items)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def as_dicts(self) -> tuple[dict[str, Any], ...]:
        """Give the problems as JSON."""
        return tuple(problem.as_dict() for problem in self.items)

    def error(self) -> ValidationError:
        """Give the error that lists all of them; its type is theirs when they agree on one that has a code."""
        return error_of(self.as_dicts())


def error_of(problems: Iterable[dict[str, Any]]) -> ValidationError:
    """Give the error that lists problems that travelled as JSON (`RecordPlan.problems`)."""
    listed = [
        Problem(**{key: problem[key] for key in Problem.__struct_fields__ if key in problem}) for problem in problems
    ]
    types = {problem.type for problem in listed}
    kind: type[ValidationError] = ValidationError
    if types == {ToolNotFoundError.type}:
        kind = ToolNotFoundError
    elif types == {MissingArgumentError.type}:
        kind = MissingArgumentError
    message = "; ".join(str(problem) for problem in listed[:PROBLEMS_MAX])
    return kind(message, details={"problems": [problem.as_dict() for problem in listed[:PROBLEMS_MAX]]})


def brief(message: str) -> str:
    """Leave out the middle of a message that repeats a long text of the document."""
    if len(message) <= MESSAGE_CHARS_MAX:
        return message
    return f"{message[:BEGINNING_CHARS]} … {message[BEGINNING_CHARS - MESSAGE_CHARS_MAX :]}"


def spelled(path: Path) -> str:
    """Write a path as people do: `spec.steps[2].with.path`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text
