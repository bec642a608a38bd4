"""Functions that expressions may call beyond CEL's own, all deterministic; there is no `now()` (pure).

CEL treats `x.f(a)` as `f(x, a)`, so each works as a method too. The library's own extensions follow cel-go
(strings, lists, math, sets, encoders); ours replace some of them where JSON needs another answer, and add `keys`,
`values`, `json` and `format`.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from headrace import codec
from headrace.expressions import library
from headrace.expressions.series import Series

NATIVE: Final = frozenset(
    {
        *("size", "has", "all", "exists", "exists_one", "map", "filter", "type", "dyn"),
        *("contains", "startsWith", "endsWith", "matches"),
        *("int", "uint", "double", "string", "bytes", "timestamp", "duration"),
        *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
        *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
    }
)
"""What the CEL library evaluates itself."""

IN_ORDER: Final = "each_"
"""Put before `.map(` and `.filter(` over a map, whose own order would differ from process to process."""

_PLACE: Final = re.compile(r"%(?:\.(\d+)f|([sdf%]))")


def sum_(items: list[Any]) -> Any:
    """Add numbers; 0 for an empty list."""
    for item in _list("sum", items):
        if isinstance(item, bool) or not isinstance(item, int | float):
            message = f"sum() adds numbers, not {type_name(item)}"
            raise TypeError(message)
    return sum(items)


def first(items: list[Any]) -> Any:
    """Give the first element."""
    if not _list("first", items):
        message = "first() of an empty list"
        raise IndexError(message)
    return items[0]


def last(items: list[Any]) -> Any:
    """Give the last element."""
    if not _list("last", items):
        message = "last() of an empty list"
        raise IndexError(message)
    return items[-1]


def sort(items: list[Any]) -> list[Any]:
    """Sort numbers or texts ascending."""
    return sorted(_list("sort", items))


def distinct(items: list[Any]) -> list[Any]:
    """Keep the first of equal elements; true and 1 are not equal."""
    seen: set[bytes] = set()
    kept = []
    for item in _list("distinct", items):
        key = codec.dumps(in_order(item))
        if key not in seen:
            seen.add(key)
            kept.append(item)
    return kept


def flatten(items: list[Any], depth: int = 1) -> list[Any]:
    """Put the elements of inner lists in their place, `depth` levels deep."""
    flat: list[Any] = []
    for item in _list("flatten", items):
        if isinstance(item, list) and depth > 0:
            flat.extend(flatten(item, depth - 1))
        else:
            flat.append(item)
    return flat


def join(items: list[Any], separator: str = "") -> str:
    """Join texts."""
    for item in _list("join", items):
        if not isinstance(item, str):
            message = f"join() joins texts, not {type_name(item)}; convert with string(x)"
            raise TypeError(message)
    return separator.join(items)


def keys(value: dict[str, Any]) -> list[str]:
    """Give the keys of a map, sorted."""
    return sorted(_map("keys", value))


def values(value: dict[str, Any]) -> list[Any]:
    """Give the values of a map, by sorted key."""
    return [value[key] for key in sorted(_map("values", value))]


def json(value: Any) -> str:
    """Write a value as JSON, keys sorted."""
    return codec.dumps(in_order(value)).decode("utf-8", "surrogatepass")


def format_(text: str, items: list[Any]) -> str:
    """Fill `%s`, `%d`, `%f`, `%.2f` in a text from a list; `%%` is a percent sign."""
    rest = list(_list("format", items))

    def fill(found: re.Match[str]) -> str:
        if found[2] == "%":
            return "%"
        if not rest:
            message = "format() has more places than values"
            raise TypeError(message)
        value = rest.pop(0)
        if found[2] == "s":
            return value if isinstance(value, str) else json(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            message = f"format() needs a number for {found[0]}, not {type_name(value)}"
            raise TypeError(message)
        return str(int(value)) if found[2] == "d" else f"{value:.{found[1] or 6}f}"

    filled = _PLACE.sub(fill, text)
    if rest:
        message = "format() has more values than places"
        raise TypeError(message)
    return filled


def of_text(name: str) -> Callable[[Any], str]:
    """Give a function of the library that is of a text, and of nothing else.

    It would go through the keys of a map, in an order that differs from process to process, as through a text's letters.
    """
    of_library = library.FUNCTIONS[name]

    def call(text: Any) -> str:
        if not isinstance(text, str):
            message = f"{name}() needs a text, not {type_name(text)}"
            raise TypeError(message)
        return str(of_library(text))

    return call


def each_(value: Any) -> Any:
    """Give a map's keys in a stated order, and a list as it is."""
    return sorted(value) if isinstance(value, dict) else value


def in_order(value: Any) -> Any:
    """Give the value with the keys of all its maps sorted: CEL's maps have no order of their own."""
    match value:
        case dict():
            return {key: in_order(value[key]) for key in sorted(value, key=str)}
        case list() | tuple():
            return [in_order(item) for item in value]
        case _:
            return value


def type_name(value: Any) -> str:
    """Give CEL's word for the type of a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "double"
        case str():
            return "text"
        case list() | tuple() | Series():
            return "list"
        case dict():
            return "map"
        case _:
            return type(value).__name__


def _list(function: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        message = f"{function}() needs a list, not {type_name(value)}"
        raise TypeError(message)
    return value


def _map(function: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        message = f"{function}() needs a map, not {type_name(value)}"
        raise TypeError(message)
    return value


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    **library.FUNCTIONS,
    "sum": sum_,
    "first": first,
    "last": last,
    "sort": sort,
    "distinct": distinct,
    "flatten": flatten,
    "join": join,
    "keys": keys,
    "values": values,
    "json": json,
    "format": format_,
    **{name: of_text(name) for name in ("lowerAscii", "upperAscii", "strings.quote")},
    IN_ORDER: each_,
}
GIVES_LIST: Final = frozenset(
    {"map", "filter", "split", "sort", "distinct", "flatten", "keys", "values", "slice", "lists.range", IN_ORDER}
)
"""Functions that always give a list, so that what follows needs no ordering."""
"""Names with a dot are called by it (`math.greatest(1, 2)`)."""
NAMESPACES: Final = frozenset(name.split(".")[0] for name in FUNCTIONS if "." in name)
KNOWN: Final = NATIVE | (FUNCTIONS.keys() - {IN_ORDER})
