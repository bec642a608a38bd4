"""JSON as others send it, held to RFC 8259: what it forbids or leaves open is refused by its place (pure).

Python reads `NaN` and `Infinity`, which are no JSON, and of a name that an object gives twice keeps the last alone; what
was meant is anybody's guess. The common case costs one call more for each object than `json.loads`.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from headrace.errors import ValidationError

CONSTANTS: Final = frozenset({"NaN", "Infinity", "-Infinity"})
"""What Python reads as a number and JSON does not know."""
TWICE: Final = "is given twice in the same object: keep one"
PROBLEMS_MAX: Final = 20
"""Problems of one text that are told."""
NAME_CHARS_MAX: Final = 80
"""As much of a name is told."""


class _OddError(Exception):
    """Something to be refused was met: where, a second reading tells."""


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written."""


class _Constant(str):
    """A number that JSON does not know."""

    __slots__ = ()


def loads(data: bytes | str) -> Any:
    """Read JSON; raises ValidationError with `details.problems` for what RFC 8259 forbids or leaves open.

    What cannot be read at all raises as `json.loads` does: ValueError, RecursionError.
    """
    text = data if isinstance(data, str) else data.decode(json.detect_encoding(data), "surrogatepass")
    try:
        return _decoder.decode(text)
    except _OddError:
        raise _refusal(_telling.decode(text)) from None


def _refusal(value: Any) -> ValidationError:
    told = dict.fromkeys(_problems(value, ()))
    problems = [{"field": field, "message": said} for field, said in list(told)[:PROBLEMS_MAX]]
    message = "; ".join(f"{one['field']}: {one['message']}" if one["field"] else one["message"] for one in problems)
    return ValidationError(message, details={"problems": problems})


def _problems(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, _Constant):
        yield ".".join(path), f"must be a number, a text or null, not {value}, which JSON does not know"
    elif isinstance(value, _Pairs):
        names = set()
        for name, item in value:
            here = (*path, name[:NAME_CHARS_MAX])
            if name in names:
                yield ".".join(here), TWICE
            names.add(name)
            yield from _problems(item, here)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _problems(item, (*path, str(number)))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _OddError
    return value


def _refuse(_: str) -> None:
    raise _OddError


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
_telling = json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=_Constant)
