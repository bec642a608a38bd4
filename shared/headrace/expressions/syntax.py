"""The tree of an expression, for judging its types; the library parses too, but does not show what it read (pure).

The grammar is the one of https://github.com/google/cel-spec/blob/master/doc/langdef.md, as far as the library has it.
What this does not know (messages, optional fields) gives None, so that nothing is said of it.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from headrace.expressions.lexer import Token, string_value, tokens

NESTING_MAX: Final = 200
"""How deep a tree may be; a deeper expression is not judged."""
CACHE_ENTRIES_MAX: Final = 4_096
RELATIONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})
WORDS: Final = {"true": "bool", "false": "bool", "null": "null"}
LEVELS: Final = (
    frozenset({"||"}),
    frozenset({"&&"}),
    RELATIONS,
    frozenset({"+", "-"}),
    frozenset({"*", "/", "%"}),
)
"""Binary operators from the loosest to the closest; all of them hold to the left."""
END: Final = Token("end", "", -1)
_BYTES: Final = re.compile(r"[rR]?[bB]")


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: its kind (`int`, `string` …), and its value when that may be a key."""

    kind: str
    value: str | int | None
    text: str


@dataclass(frozen=True, slots=True)
class Name:
    """A name that stands alone."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Select:
    """`target.key`."""

    target: "Node"
    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Index:
    """`target[key]`."""

    target: "Node"
    key: "Node"
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """`function(arguments)` or `target.function(arguments)`."""

    function: str
    target: "Node | None"
    arguments: tuple["Node", ...]
    text: str


@dataclass(frozen=True, slots=True)
class Unary:
    """`!operand` or `-operand`."""

    operator: str
    operand: "Node"
    text: str


@dataclass(frozen=True, slots=True)
class Binary:
    """`left operator right`."""

    operator: str
    left: "Node"
    right: "Node"
    text: str


@dataclass(frozen=True, slots=True)
class Ternary:
    """`condition ? yes : no`."""

    condition: "Node"
    yes: "Node"
    no: "Node"
    text: str


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[item, …]`."""

    items: tuple["Node", ...]
    text: str


@dataclass(frozen=True, slots=True)
class MapOf:
    """`{key: value, …}`."""

    entries: tuple[tuple["Node", "Node"], ...]
    text: str


Node = Literal | Name | Select | Index | Call | Unary | Binary | Ternary | ListOf | MapOf


class _UnknownError(Exception):
    """The expression holds something that this does not read."""


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._expression()
        if self._at != len(self._tokens):
            raise _UnknownError
        return node

    @property
    def _next(self) -> Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else END

    def _takes(self, sign: str) -> bool:
        """Read a sign (or the word `in`) if it comes next."""
        if self._next.text != sign or self._next.sort not in {"sign", "name"}:
            return False
        self._at += 1
        return True

    def _must(self, sign: str) -> None:
        if not self._takes(sign):
            raise _UnknownError

    def _since(self, begin: int) -> str:
        last = self._tokens[self._at - 1]
        return self._text[self._tokens[begin].start : last.start + len(last.text)]

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise _UnknownError
        begin = self._at
        node = self._binary(0)
        if self._takes("?"):
            yes = self._binary(0)
            self._must(":")
            no = self._expression()
            node = Ternary(node, yes, no, self._since(begin))
        self._depth -= 1
        return node

    def _binary(self, level: int) -> Node:
        if level == len(LEVELS):
            return self._unary()
        begin = self._at
        node = self._binary(level + 1)
        while (operator := self._next).sort in {"sign", "name"} and operator.text in LEVELS[level]:
            self._at += 1
            right = self._binary(level + 1)
            node = Binary(operator.text, node, right, self._since(begin))
        return node

    def _unary(self) -> Node:
        begin, operators = self._at, []
        while self._next.sort == "sign" and self._next.text in {"!", "-"}:
            operators.append((self._next.text, self._at))
            self._at += 1
        if len({operator for operator, _ in operators}) > 1 or len(operators) > NESTING_MAX:
            raise _UnknownError
        node = self._member()
        for operator, place in reversed(operators):
            node = Unary(operator, node, self._since(max(place, begin)))
        return node

    def _member(self) -> Node:
        begin = self._at
        node = self._primary()
        while True:
            if self._takes("."):
                name = self._next
                if name.sort != "name":
                    raise _UnknownError
                self._at += 1
                if self._takes("("):
                    arguments = self._list(")")
                    node = Call(name.text, node, arguments, self._since(begin))
                else:
                    node = Select(node, name.text, self._since(begin))
            elif self._takes("["):
                key = self._expression()
                self._must("]")
                node = Index(node, key, self._since(begin))
            else:
                return node

    def _primary(self) -> Node:
        begin, token = self._at, self._next
        self._at += 1
        match token.sort:
            case "string":
                kind = "bytes" if _BYTES.match(token.text) else "string"
                return Literal(kind, string_value(token) if kind == "string" else None, token.text)
            case "number":
                return _number(token)
            case "name" if token.text in WORDS:
                return Literal(WORDS[token.text], None, token.text)
            case "name" if token.text != "in":
                if self._takes("("):
                    return Call(token.text, None, self._list(")"), self._since(begin))
                return Name(token.text, token.text)
            case "sign" if token.text == "(":
                node = self._expression()
                self._must(")")
                return node
            case "sign" if token.text == "[":
                items = self._list("]")
                return ListOf(items, self._since(begin))
            case "sign" if token.text == "{":
                entries = self._entries()
                return MapOf(entries, self._since(begin))
            case _:
                raise _UnknownError

    def _list(self, closing: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self._takes(closing):
            items.append(self._expression())
            if not self._takes(","):
                self._must(closing)
                break
        return tuple(items)

    def _entries(self) -> tuple[tuple[Node, Node], ...]:
        entries: list[tuple[Node, Node]] = []
        while not self._takes("}"):
            key = self._expression()
            self._must(":")
            entries.append((key, self._expression()))
            if not self._takes(","):
                self._must("}")
                break
        return tuple(entries)


def _number(token: Token) -> Literal:
    text = token.text.lower()
    if text.endswith("u"):
        return Literal("uint", None, token.text)
    if text.startswith("0x"):
        return Literal("int", int(text, 16), token.text)
    if text.isdecimal():
        return Literal("int", int(text), token.text)
    return Literal("double", None, token.text)


@lru_cache(maxsize=CACHE_ENTRIES_MAX)
def tree(text: str) -> Node | None:
    """Give the tree of an expression that the library has parsed; None for what is not read here."""
    try:
        return _Parser(text).whole()
    except (_UnknownError, RecursionError):
        return None
