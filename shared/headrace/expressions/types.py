"""What is known of a value before there is one: the kinds it may have, and what its lists and maps hold (pure).

A type is what a value may be, never less: `ANY` where nothing is known. So an operation that no combination of its
operands' kinds allows is certain to fail, and nothing else may be called wrong.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

KINDS: Final = frozenset(
    {
        *("null", "bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration"),
        *("list", "map", "type", "optional"),
    }
)
WORDS: Final = {
    "null": "null",
    "bool": "true or false",
    "int": "a whole number",
    "uint": "an unsigned number",
    "double": "a decimal number",
    "string": "a text",
    "bytes": "bytes",
    "timestamp": "a timestamp",
    "duration": "a duration",
    "list": "a list",
    "map": "a map",
    "type": "a type",
    "optional": "an optional value",
}
SCHEMA_KINDS: Final[dict[str, frozenset[str]]] = {
    "string": frozenset({"string"}),
    "integer": frozenset({"int"}),
    "number": frozenset({"int", "double"}),
    "boolean": frozenset({"bool"}),
    "array": frozenset({"list"}),
    "object": frozenset({"map"}),
    "null": frozenset({"null"}),
}
SCHEMA_PARTS_MAX: Final = 2_000
"""How many parts of a schema are read; what lies beyond is unknown."""


@dataclass(frozen=True, slots=True)
class Type:
    """The kinds a value may have.

    `element` is the type of its list's elements. `fields` are the keys its map may have, `rest` the type of other
    keys; a `closed` map has no others. None: unknown.
    """

    kinds: frozenset[str]
    element: "Type | None" = None
    fields: "Mapping[str, Type] | None" = None
    rest: "Type | None" = None
    closed: bool = False

    def __str__(self) -> str:
        """Give the kinds in words, without `null` when there are others."""
        if self.kinds >= KINDS:
            return "any value"
        if self.kinds >= {"int", "double"} and len(self.kinds - {"null"}) == len({"int", "double"}):
            return "a number"
        shown = self.kinds - {"null"} or self.kinds
        return " or ".join(word for kind, word in WORDS.items() if kind in shown)

    def items(self) -> "Type":
        """Give the type of the elements of a list."""
        return ANY if self.element is None or not self.element.kinds else self.element

    def field(self, key: str) -> "Type | None":
        """Give the type of a map's field; None when it certainly has none of that name."""
        if self.fields is not None and key in self.fields:
            return self.fields[key]
        if self.closed:
            return None
        return self.rest or ANY


ANY: Final = Type(KINDS)
NULL: Final = Type(frozenset({"null"}))
BOOL: Final = Type(frozenset({"bool"}))
INT: Final = Type(frozenset({"int"}))
DOUBLE: Final = Type(frozenset({"double"}))
NUMBER: Final = Type(frozenset({"int", "double"}))
STRING: Final = Type(frozenset({"string"}))
MAP: Final = Type(frozenset({"map"}))


def of(*kinds: str) -> Type:
    """Give the type of values of some kinds, of which no more is known."""
    return Type(frozenset(kinds))


def list_of(element: Type | None) -> Type:
    """Give the type of a list."""
    return Type(frozenset({"list"}), element=element)


def map_of(fields: Mapping[str, Type], *, closed: bool) -> Type:
    """Give the type of a map with known fields."""
    return Type(frozenset({"map"}), fields=fields, closed=closed)


def union(types: Iterable[Type]) -> Type:
    """Give the type of a value that is of one of some types; of none at all: unknown."""
    found: Type | None = None
    for one in types:
        found = one if found is None else _either(found, one)
    return ANY if found is None else found


def _either(one: Type, other: Type) -> Type:
    kinds = one.kinds | other.kinds
    if kinds >= KINDS:
        return ANY
    element = _of_both(one, other, "list", one.element, other.element)
    if "map" not in other.kinds or "map" not in one.kinds:
        whole = one if "map" in one.kinds else other
        return Type(kinds, element, whole.fields, whole.rest, whole.closed)
    if one.fields is None or other.fields is None:
        return Type(kinds, element)
    names = {**one.fields, **other.fields}
    fields = {name: union(t for side in (one, other) if (t := side.field(name)) is not None) for name in names}
    closed = one.closed and other.closed
    rests = [side.rest for side in (one, other) if not side.closed]
    rest = None if closed or None in rests else union(t for t in rests if t is not None)
    return Type(kinds, element, fields, rest, closed)


def _of_both(one: Type, other: Type, kind: str, mine: Type | None, others: Type | None) -> Type | None:
    if kind not in other.kinds:
        return mine
    if kind not in one.kinds:
        return others
    return None if mine is None or others is None else _either(mine, others)


def optional(known: Type) -> Type:
    """Give the type of a value that may be null instead."""
    return _either(known, NULL)


def stored(known: Type) -> Type:
    """Give the type of a value once it is written as JSON and read again."""
    if known.kinds >= KINDS or "optional" in known.kinds:
        return ANY
    kinds: set[str] = set()
    for kind in known.kinds:
        match kind:
            case "bytes" | "timestamp" | "duration" | "type":
                kinds.add("string")
            case "uint":
                kinds.add("int")
            case "double":
                kinds |= {"int", "double"}
            case _:
                kinds.add(kind)
    return Type(
        frozenset(kinds),
        None if known.element is None else stored(known.element),
        None if known.fields is None else {name: stored(field) for name, field in known.fields.items()},
        None if known.rest is None else stored(known.rest),
        known.closed,
    )


def of_value(value: Any) -> Type:
    """Give the type of a JSON constant; a whole number may have been written as a decimal one, and the reverse."""
    match value:
        case None:
            return NULL
        case bool():
            return BOOL
        case int():
            return INT
        case float():
            return NUMBER if value.is_integer() else DOUBLE
        case str():
            return STRING
        case list() | tuple():
            return list_of(union(map(of_value, value)) if value else None)
        case dict():
            return map_of({str(key): of_value(item) for key, item in value.items()}, closed=True)
        case _:
            return ANY


def of_schema(schema: Any, root: Any = None) -> Type:
    """Give the type of the values that a JSON Schema allows; what is not read of a schema only narrows it.

    `root` is the whole that the schema is a part of, to which its references refer.
    """
    return _Schema(schema if root is None else root).read(schema, ())


class _Schema:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._parts = 0

    def read(self, schema: Any, within: tuple[str, ...]) -> Type:
        """Give the type; `within` are the references that are being followed."""
        self._parts += 1
        if not isinstance(schema, dict) or self._parts > SCHEMA_PARTS_MAX:
            return ANY
        if isinstance(reference := schema.get("$ref"), str):
            return ANY if reference in within else self.read(referred(self._root, reference), (*within, reference))
        if "const" in schema:
            return of_value(schema["const"])
        if isinstance(allowed := schema.get("enum"), list):
            return union(map(of_value, allowed))
        for word in ("anyOf", "oneOf"):
            if isinstance(choices := schema.get(word), list):
                return union(self.read(choice, within) for choice in choices)
        if isinstance(parts := schema.get("allOf"), list) and len(parts) == 1:
            return self.read(parts[0], within)
        return self._plain(schema, within)

    def _plain(self, schema: dict[str, Any], within: tuple[str, ...]) -> Type:
        wanted = schema.get("type")
        found = [SCHEMA_KINDS.get(str(name)) for name in (wanted if isinstance(wanted, list) else [wanted])]
        kinds = frozenset[str]().union(*(kinds for kinds in found if kinds is not None))
        if not kinds or None in found:
            return ANY
        element = self.read(schema["items"], within) if "items" in schema and "prefixItems" not in schema else None
        if "patternProperties" in schema or not isinstance(schema.get("properties", {}), dict):
            return Type(kinds, element)
        more = schema.get("additionalProperties", True)
        fields = {name: self.read(part, within) for name, part in schema.get("properties", {}).items()}
        rest = self.read(more, within) if isinstance(more, dict) else None
        return Type(kinds, element, fields, rest, closed=more is False and "map" in kinds)


def referred(root: Any, reference: str) -> Any:
    """Give the part of a schema that a reference such as `#/$defs/One` means; `{}`, any value, for all others."""
    if not reference.startswith("#"):
        return {}
    found: Any = root
    for key in reference[1:].split("/")[1:]:
        name = key.replace("~1", "/").replace("~0", "~")
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return found
