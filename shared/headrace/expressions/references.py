"""Which recorded values an expression refers to, told from its tokens (pure)."""

from dataclasses import dataclass, field
from typing import Final, NoReturn

from headrace.errors import ValidationError
from headrace.expressions.functions import GIVES_LIST, IN_ORDER, KNOWN, NAMESPACES
from headrace.expressions.lexer import CLOSING, OPENING, Token, string_value, tokens
from headrace.expressions.near import hint
from headrace.expressions.scope import ROOTS, STEPS

MACROS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})
LITERALS: Final = frozenset({"true", "false", "null", "in"})
END: Final = Token("end", "", -1)

Segment = str | int
Path = tuple[Segment, ...]


@dataclass(frozen=True)
class Analysis:
    """What is known of an expression before it is evaluated.

    `paths` begin with a root and go as far as their keys are stated. `plain` is set when the expression is nothing but
    such a path. `rewritten` iterates over maps in a stated order; `iterated` are the paths for which that matters, and
    `always` says that it may matter for something that is no path.
    """

    paths: tuple[Path, ...]
    plain: Path | None
    rewritten: str | None
    iterated: tuple[Path, ...]
    always: bool


@dataclass
class _Reader:
    text: str
    tokens: list[Token]
    paths: list[Path] = field(default_factory=list)
    iterated: list[Path] = field(default_factory=list)
    inserts: list[int] = field(default_factory=list)
    always: bool = False
    bound: list[frozenset[str]] = field(default_factory=list)
    openers: list[int] = field(default_factory=list)
    closed: dict[int, int] = field(default_factory=dict)
    """Where each closing bracket was opened, by token number."""
    path_end: dict[int, Path] = field(default_factory=dict)
    """The path that ends with a token."""

    def at(self, number: int) -> Token:
        return self.tokens[number] if 0 <= number < len(self.tokens) else END

    def read(self) -> None:
        number = 0
        while number < len(self.tokens):
            token = self.tokens[number]
            if token.text in OPENING and token.sort == "sign":
                self._open(number)
            elif token.text in CLOSING and token.sort == "sign":
                self._close(number)
            elif token.sort == "name":
                number = self._name(number)
            number += 1

    def plain(self) -> Path | None:
        """Give the path that the tokens are from the first to the last, if they are one."""
        if self.at(0).sort != "name" or self.at(0).text not in ROOTS:
            return None
        path, end = self._keys(0)
        return tuple(path) if end == len(self.tokens) - 1 else None

    def _open(self, number: int) -> None:
        method, dot = self.at(number - 1), self.at(number - 2)
        variable: frozenset[str] = frozenset()
        if self.at(number).text == "(" and method.text in MACROS and dot.text == ".":
            name, comma = self.at(number + 1), self.at(number + 2)
            if name.sort == "name" and comma.text == ",":
                variable = frozenset({name.text})
            if method.text in {"map", "filter"}:
                self._iterate(number - 2)
        self.bound.append(variable)
        self.openers.append(number)

    def _iterate(self, dot: int) -> None:
        """Note a `.map(` or `.filter(` whose target, before the dot, may be a map."""
        if dot - 1 in self.path_end:
            self.iterated.append(self.path_end[dot - 1])
        elif self._gives_list(dot - 1):
            return
        else:
            self.always = True
        self.inserts.append(self.tokens[dot].start)

    def _gives_list(self, closing: int) -> bool:
        """Tell whether what ends with this bracket is a list literal, or the call of a function that gives a list."""
        before = self.at(self.closed.get(closing, -1) - 1)
        if self.at(closing).text == "]":
            return before.sort in {"sign", "end"} and before.text not in CLOSING
        return self.at(closing).text == ")" and before.text in GIVES_LIST

    def _close(self, number: int) -> None:
        if self.openers:
            self.closed[number] = self.openers.pop()
            self.bound.pop()

    def _name(self, number: int) -> int:
        """Read a name, and the keys behind it when it is a root; give the number of the last token read."""
        token, following = self.at(number), self.at(number + 1)
        if self.at(number - 1).text == "." or token.text in LITERALS or following.text == "(":
            return number
        if any(token.text in names for names in self.bound):
            return number
        if token.text in NAMESPACES and following.text == "." and self.at(number + 3).text == "(":
            return number
        if token.text not in ROOTS:
            refuse(self.text, f"unknown name {token.text!r}{hint(token.text, ROOTS)}", token.start)
        path, end = self._keys(number)
        if token.text == STEPS and len(path) == 1:
            refuse(self.text, "steps must be followed by the id of a step, as in steps.gather", token.start)
        self.paths.append(tuple(path))
        self.path_end[end] = tuple(path)
        return end

    def _keys(self, number: int) -> tuple[list[Segment], int]:
        path: list[Segment] = [self.at(number).text]
        while True:
            one, two, three = (self.at(number + ahead) for ahead in (1, 2, 3))
            if one.text == "." and two.sort == "name" and three.text != "(":
                path.append(two.text)
                number += 2
            elif one.text == "[" and three.text == "]" and (key := _literal(two)) is not None:
                path.append(key)
                number += 3
            else:
                return path, number


def _literal(token: Token) -> Segment | None:
    if token.sort == "number" and token.text.isdecimal():
        return int(token.text)
    return string_value(token) if token.sort == "string" else None


def analyse(text: str) -> Analysis:
    """Tell what an expression (known to parse) refers to; raises ValidationError for an unknown name."""
    reader = _Reader(text, tokens(text))
    reader.read()
    return Analysis(
        paths=tuple(dict.fromkeys(reader.paths)),
        plain=reader.plain(),
        rewritten=_rewritten(text, reader.inserts) if reader.inserts else None,
        iterated=tuple(dict.fromkeys(reader.iterated)),
        always=reader.always,
    )


def _rewritten(text: str, inserts: list[int]) -> str:
    pieces, before = [], 0
    for place in sorted(inserts):
        pieces += [text[before:place], f".{IN_ORDER}()"]
        before = place
    return "".join([*pieces, text[before:]])


def refuse(text: str, why: str, offset: int) -> NoReturn:
    """Raise the error of an expression that cannot be, with where in it."""
    line = text.count("\n", 0, offset) + 1
    column = offset - (text.rfind("\n", 0, offset) + 1) + 1
    message = f"expression {text!r}: {why} (line {line}, column {column})"
    raise ValidationError(message, details={"expression": text, "line": line, "column": column})


def unknown_function(text: str, names: list[str]) -> None:
    """Refuse the first name that is no function; operators have names that are no identifiers."""
    spelled = {name.rsplit(".", 1)[-1] for name in KNOWN}
    for name in names:
        if name.isidentifier() and name.strip("_") == name and name not in spelled:
            offset = max(text.find(f"{name}("), 0)
            refuse(text, f"unknown function {name!r}{hint(name, KNOWN)}", offset)
