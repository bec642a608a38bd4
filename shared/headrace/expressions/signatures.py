"""What CEL's operators and functions take and give, by the kinds of their operands (pure).

It is what the library does, not what the specification says: where a function takes more than it should, so does its
signature, since nothing that works may be refused. `tests/shared/test_expressions_types.py` holds it against the library.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from headrace.expressions.types import ANY, BOOL, DOUBLE, INT, KINDS, STRING, Type, list_of, of

NUMBERS: Final = ("int", "uint", "double")
ADDED: Final = {
    **{(kind, kind): kind for kind in (*NUMBERS, "string", "bytes", "list", "duration")},
    ("timestamp", "duration"): "timestamp",
    ("list", "map"): "list",
}
SUBTRACTED: Final = {
    **{(kind, kind): kind for kind in (*NUMBERS, "duration")},
    ("timestamp", "timestamp"): "duration",
    ("timestamp", "duration"): "timestamp",
}
COMPARED: Final = {
    **{(kind, kind): "bool" for kind in ("bool", "string", "bytes", "timestamp", "duration")},
    **{(one, other): "bool" for one in NUMBERS for other in NUMBERS},
}
BINARY: Final[dict[str, dict[tuple[str, str], str]]] = {
    "+": ADDED,
    "-": SUBTRACTED,
    "*": {(kind, kind): kind for kind in NUMBERS},
    "/": {(kind, kind): kind for kind in NUMBERS},
    "%": {(kind, kind): kind for kind in ("int", "uint")},
    "<": COMPARED,
    "<=": COMPARED,
    ">": COMPARED,
    ">=": COMPARED,
}
"""By operator and the kinds of both operands, the kind of the result; a pair that is missing is an error."""
UNARY: Final = {"!": frozenset({"bool"}), "-": frozenset({"int", "double", "bool"})}

Kinds = frozenset[str]
EVERY: Final = KINDS
TEXT: Final[Kinds] = frozenset({"string", "type", "optional"})
LIST: Final[Kinds] = frozenset({"list", "optional"})
MAPPING: Final[Kinds] = frozenset({"map", "optional"})
COUNT: Final[Kinds] = frozenset({"bool", "int", "uint", "optional"})
NUMERIC: Final[Kinds] = COUNT | {"double"}
TEXTUAL: Final[Kinds] = TEXT | {"bytes"}
SEQUENCE: Final[Kinds] = TEXTUAL | {"list"}
HOLDER: Final[Kinds] = SEQUENCE | {"map"}


class Signature(NamedTuple):
    """The kinds that each argument may have (further arguments are not judged), and the type of the result."""

    takes: tuple[Kinds, ...]
    gives: Callable[[Sequence[Type]], Type]


def _always(known: Type) -> Callable[[Sequence[Type]], Type]:
    return lambda _: known


def _element(given: Sequence[Type]) -> Type:
    return given[0].items() if given else ANY


def _as_first(given: Sequence[Type]) -> Type:
    return Type(given[0].kinds - {"optional", "type"} | {"string"}, element=given[0].element) if given else ANY


def _same_list(given: Sequence[Type]) -> Type:
    return list_of(given[0].element if given and given[0].kinds <= {"list", "null"} else None)


TO_TEXT: Final = _always(STRING)
TO_WHOLE: Final = _always(INT)
TO_NUMBER: Final = _always(of("int", "double"))
TO_TRUTH: Final = _always(BOOL)
TO_BYTES: Final = _always(of("bytes"))
TO_ANYTHING: Final = _always(ANY)
TO_LIST: Final = _always(list_of(None))
NUMERAL: Final[Kinds] = frozenset({*NUMBERS, "string"})
PART: Final[Kinds] = frozenset({"string"})
TIME: Final[Kinds] = frozenset({"timestamp"})

OF_CEL: Final = {
    "size": Signature((frozenset({"string", "bytes", "list", "map"}),), TO_WHOLE),
    "startsWith": Signature((PART, PART), TO_TRUTH),
    "endsWith": Signature((PART, PART), TO_TRUTH),
    "matches": Signature((PART, PART), TO_TRUTH),
    "contains": Signature((HOLDER, EVERY), TO_TRUTH),
    "int": Signature((NUMERAL,), TO_WHOLE),
    "uint": Signature((NUMERAL,), _always(of("uint"))),
    "double": Signature((NUMERAL,), _always(DOUBLE)),
    "string": Signature((NUMERAL | {"bytes", "timestamp", "duration"},), TO_TEXT),
    "bytes": Signature((frozenset({"string", "bytes"}),), TO_BYTES),
    "bool": Signature((frozenset({"bool"}) | TEXT,), TO_TRUTH),
    "timestamp": Signature((frozenset({"string", "timestamp"}),), _always(of("timestamp"))),
    "duration": Signature((frozenset({"string", "duration"}),), _always(of("duration"))),
    "type": Signature((EVERY,), _always(of("type"))),
    "dyn": Signature((EVERY,), TO_ANYTHING),
    **{
        f"get{name}": Signature((TIME | {"duration"},), TO_WHOLE)
        for name in ("Hours", "Minutes", "Seconds", "Milliseconds")
    },
    **{
        f"get{name}": Signature((TIME,), TO_WHOLE)
        for name in ("FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear")
    },
}
OF_TEXTS: Final = {
    "json": Signature((EVERY,), TO_TEXT),
    "charAt": Signature((HOLDER, NUMERIC), TO_ANYTHING),
    "indexOf": Signature((TEXTUAL, TEXTUAL | COUNT), TO_WHOLE),
    "lastIndexOf": Signature((TEXTUAL, TEXTUAL | COUNT), TO_WHOLE),
    "substring": Signature((SEQUENCE, COUNT), _as_first),
    "replace": Signature((TEXTUAL, TEXTUAL, TEXTUAL), _as_first),
    "split": Signature((HOLDER, TEXTUAL | {"null"}), TO_LIST),
    "lowerAscii": Signature((TEXT,), TO_TEXT),
    "upperAscii": Signature((TEXT,), TO_TEXT),
    "strings.quote": Signature((TEXT,), TO_TEXT),
    "trim": Signature((TEXTUAL,), _as_first),
    "reverse": Signature((TEXT | {"list"},), _as_first),
    "format": Signature((TEXT, LIST), TO_TEXT),
    "join": Signature((LIST, TEXTUAL), _always(of("string", "bytes"))),
    "base64.encode": Signature((TEXTUAL,), TO_TEXT),
    "base64.decode": Signature((TEXTUAL,), TO_BYTES),
}
OF_LISTS: Final = {
    "keys": Signature((MAPPING,), _always(list_of(STRING))),
    "values": Signature((MAPPING,), TO_LIST),
    "sum": Signature((LIST,), TO_NUMBER),
    "first": Signature((LIST,), _element),
    "last": Signature((LIST,), _element),
    "sort": Signature((LIST,), _same_list),
    "distinct": Signature((LIST,), _same_list),
    "flatten": Signature((LIST,), TO_LIST),
    "slice": Signature((SEQUENCE, COUNT, COUNT), _as_first),
    "lists.range": Signature((COUNT,), _always(list_of(INT))),
    **{f"sets.{name}": Signature((), TO_TRUTH) for name in ("contains", "equivalent", "intersects")},
}
OF_NUMBERS: Final = {
    "math.abs": Signature((NUMERIC | {"duration"},), _always(of("int", "double", "duration"))),
    "math.sign": Signature((NUMERIC,), TO_NUMBER),
    "math.bitNot": Signature((COUNT,), TO_WHOLE),
    **{f"math.{name}": Signature((NUMERIC,), TO_NUMBER) for name in ("ceil", "floor", "round", "trunc", "sqrt")},
    **{f"math.{name}": Signature((NUMERIC,), TO_TRUTH) for name in ("isFinite", "isInf", "isNaN")},
    **{
        f"math.{name}": Signature((COUNT, COUNT), TO_WHOLE)
        for name in ("bitAnd", "bitOr", "bitXor", "bitShiftLeft", "bitShiftRight")
    },
}
SIGNATURES: Final[Mapping[str, Signature]] = {**OF_CEL, **OF_TEXTS, **OF_LISTS, **OF_NUMBERS}
"""By the name of the function; one that is missing takes and gives anything."""
