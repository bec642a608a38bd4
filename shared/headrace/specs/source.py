"""Reading YAML 1.2 or JSON: the value, and line and column of every node (pure).

Scalars follow YAML's core schema (https://yaml.org/spec/1.2.2/#103-core-schema): `yes` is a text, a date is a text.
Refused are what JSON cannot say, what would explode or never end (cyclic or multiplying aliases), what is ambiguous
(duplicate keys, merge keys, tags), and anything over a stated limit.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, NoReturn

from headrace.codec import INTEGER_MAX, LONE_SURROGATE
from headrace.errors import TooLargeError, ValidationError
from headrace.specs.problems import Path, brief, spelled
from headrace.vocabulary import SPEC_BYTES_MAX

DEPTH_MAX: Final = 64
NODES_MAX: Final = 100_000
DOCUMENTS_MAX: Final = 100
DIGITS_MAX: Final = 400
HALF: Final = "the text holds half of a surrogate pair, which is no character"
MANY: Final = 10**40

_NULL: Final = re.compile(r"null|Null|NULL|~|")
_TRUE: Final = re.compile(r"true|True|TRUE")
_FALSE: Final = re.compile(r"false|False|FALSE")
_INT: Final = re.compile(r"[-+]?[0-9]+")
_OCTAL: Final = re.compile(r"0o[0-7]+")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_ODD_FLOAT: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAG: Final = "tag:yaml.org,2002:"
_KNOWN_TAGS: Final = frozenset(
    f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "value")
)

Place = tuple[int, int]


@dataclass
class Source:
    """A document as it was written: its JSON value, and line and column (from 1) of each node by its path."""

    value: Any
    places: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path) -> Place | None:
        """Give where a node stands, or the nearest one around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return None


def read_sources(text: str | bytes) -> list[Source]:
    """Read every document of a text; raises ValidationError with line and column, TooLargeError over the limit."""
    decoded = _decoded(text)
    from ruamel.yaml import YAML  # slow to load, and only those who read documents need it
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    loader = YAML(typ="safe", pure=True)
    try:
        nodes = list(loader.compose_all(decoded))
    except MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        _refuse(f"not YAML: {problem.problem or problem.context}", place)
    except YAMLError as problem:
        _refuse(f"not YAML: {str(problem).splitlines()[0]}", (1, 1))
    except RecursionError:
        _refuse(f"nested deeper than {DEPTH_MAX} levels", (1, 1))
    if not nodes:
        _refuse("the document is empty", (1, 1))
    if len(nodes) > DOCUMENTS_MAX:
        _refuse(f"{len(nodes)} documents in one text; at most {DOCUMENTS_MAX} are allowed", (1, 1))
    return [_Reader().source(node) for node in nodes]


def read_json(data: bytes) -> Source:
    """Read one document that is JSON, fast and without places; raises ValidationError, TooLargeError."""
    try:
        value = json.loads(_decoded(data), object_pairs_hook=_unique, parse_int=_in_range, parse_constant=_refuse_odd)
    except json.JSONDecodeError as problem:
        _refuse(f"not JSON: {problem.msg}", (problem.lineno, problem.colno))
    except RecursionError:
        _refuse("nested too deeply", (1, 1))
    for path, said in what_documents_refuse(value):
        _refuse(f"{spelled(path) or 'the document'}: {said}", (1, 1))
    return Source(value)


def what_documents_refuse(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Say what a JSON value holds that no document may: too much depth, numbers beyond their limits, halves of characters."""
    if len(path) > DEPTH_MAX:
        yield path, f"nested deeper than {DEPTH_MAX} levels"
    elif isinstance(value, dict):
        for key, item in value.items():
            if LONE_SURROGATE.search(key):
                yield path, f"the key {key!r}: {HALF}"
            else:
                yield from what_documents_refuse(item, (*path, key))
    elif isinstance(value, str) and LONE_SURROGATE.search(value):
        yield path, HALF
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from what_documents_refuse(item, (*path, number))
    elif isinstance(value, int) and abs(value) > INTEGER_MAX:
        yield path, f"the integer {value if abs(value) < MANY else '…'} is beyond 2^53 - 1; write it as a text"
    elif isinstance(value, float) and not isfinite(value):
        yield path, "not a number that JSON knows"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = next(key for key, _ in pairs if sum(one == key for one, _ in pairs) > 1)
        _refuse(f"duplicate key {twice!r}", (1, 1))
    return value


def _in_range(text: str) -> int:
    number = int(text) if len(text) < DIGITS_MAX else INTEGER_MAX + 1
    if abs(number) > INTEGER_MAX:
        _refuse(f"the integer {text[:40]} is beyond 2^53 - 1; write it as a text", (1, 1))
    return number


def _refuse_odd(text: str) -> float:
    _refuse(f"{text} is no number that JSON knows", (1, 1))


def _decoded(text: str | bytes) -> str:
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
    if size > SPEC_BYTES_MAX:
        message = f"the document has {size} bytes; at most {SPEC_BYTES_MAX} are allowed"
        raise TooLargeError(message, details={"bytes": size, "bytes_max": SPEC_BYTES_MAX})
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = text.count(b"\n", 0, problem.start) + 1
        column = problem.start - (text.rfind(b"\n", 0, problem.start) + 1) + 1
        _refuse("not UTF-8 text", (line, column))


def _refuse(message: str, place: Place) -> NoReturn:
    line, column = place
    said = brief(message)
    listed = {"path": "", "message": said, "line": line, "column": column}
    placed = f"line {line}, column {column}: {said}"
    raise ValidationError(placed, details={"problems": [listed]}) from None


def _characters(text: str, what: str, place: Place) -> str:
    """Put together what JSON writes as two escapes (an emoji), which YAML takes one by one; refuse half of that."""
    if not LONE_SURROGATE.search(text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        _refuse(f"{what}: {HALF}", place)


class _Reader:
    """Turns composed nodes into a value, counting what aliases multiply."""

    def __init__(self) -> None:
        self._places: dict[Path, Place] = {}
        self._open: set[int] = set()
        self._count = 0

    def source(self, node: Any) -> Source:
        value = self._value(node, ())
        return Source(value, self._places)

    def _value(self, node: Any, path: Path) -> Any:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self._places.setdefault(path, place)
        self._count += 1
        if self._count > NODES_MAX:
            _refuse(f"more than {NODES_MAX} nodes, aliases counted as often as they are used", place)
        if len(path) > DEPTH_MAX:
            _refuse(f"nested deeper than {DEPTH_MAX} levels", place)
        if str(node.tag) not in _KNOWN_TAGS:
            what = "merge keys (<<) are" if str(node.tag).endswith(":merge") else f"the tag {node.tag} is"
            _refuse(f"{what} not supported", place)
        if isinstance(node.value, str):
            return self._scalar(node, path, place)
        if id(node) in self._open:
            _refuse(f"the alias at {spelled(path)} contains itself", place)
        self._open.add(id(node))
        value = self._mapping(node, path) if str(node.tag) == f"{_TAG}map" else self._sequence(node, path)
        self._open.discard(id(node))
        return value

    def _sequence(self, node: Any, path: Path) -> list[Any]:
        return [self._value(item, (*path, number)) for number, item in enumerate(node.value)]

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key_node, item in node.value:
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if str(key_node.tag).endswith(":merge"):
                _refuse("merge keys (<<) are not supported", place)
            if not isinstance(key_node.value, str):
                _refuse("a key must be a text", place)
            key = _characters(key_node.value, "a key", place)
            if key in value:
                _refuse(f"duplicate key {key!r} in {spelled(path) or 'the document'}", place)
            self._places[*path, key] = place
            value[key] = self._value(item, (*path, key))
        return value

    def _scalar(self, node: Any, path: Path, place: Place) -> Any:
        text = _characters(node.value, spelled(path), place)
        if node.style is not None or str(node.tag) == f"{_TAG}str":
            return text
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
            return text.lower() == "true"
        if _ODD_FLOAT.fullmatch(text):
            _refuse(f"{spelled(path)}: {text} is no number that JSON knows", place)
        for form, base in ((_INT, 10), (_OCTAL, 8), (_HEX, 16)):
            if form.fullmatch(text):
                return self._integer(text, base, path, place)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if abs(number) == float("inf"):
                _refuse(f"{spelled(path)}: {text} is beyond the largest number", place)
            return number
        return text

    def _integer(self, text: str, base: int, path: Path, place: Place) -> int:
        digits = text[2:] if base != 10 else text  # noqa: PLR2004  (decimal has no prefix)
        number = int(digits, base) if len(digits) < DIGITS_MAX else INTEGER_MAX + 1
        if abs(number) > INTEGER_MAX:
            _refuse(f"{spelled(path)}: the integer {text[:40]} is beyond 2^53 - 1; write it as a text", place)
        return number
