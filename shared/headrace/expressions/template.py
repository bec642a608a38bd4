r"""Templates: JSON values whose texts may hold `{{ … }}` with a CEL expression inside (pure).

A text that is one expression keeps the expression's type; in a mixed text a text stands as it is and anything else as
JSON. `\{{` is literal `{{`. Values are never expanded a second time. Keys are never expanded.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from headrace import codec
from headrace.expressions.expression import CACHE_ENTRIES_MAX, Expression, Reference, parse
from headrace.expressions.functions import in_order
from headrace.expressions.lexer import end_of_expression
from headrace.expressions.scope import NOTHING, Scope

OPEN: Final = "{{"
CLOSE: Final = "}}"

Pieces = tuple[str | Expression, ...]
Make = Callable[[Scope], Any]


class Template:
    """A parsed template over a JSON value."""

    __slots__ = ("_body", "_make", "expressions")

    def __init__(self, body: Any, expressions: tuple[Expression, ...]) -> None:
        self._body = body
        self._make = _maker(body)
        self.expressions = expressions
        """Every expression in the template, in the order of the document."""

    @property
    def references(self) -> frozenset[Reference]:
        """Give what the expressions refer to, such as ("steps", "gather") and ("inputs", None)."""
        return frozenset().union(*(expression.references for expression in self.expressions))

    @property
    def constant(self) -> bool:
        """Tell whether the template refers to nothing recorded."""
        return all(expression.constant for expression in self.expressions)

    @property
    def whole(self) -> Expression | None:
        """Give the expression that the whole template is, whose type the value has; None for everything else."""
        if not isinstance(self._body, _Text) or len(self._body.pieces) != 1:
            return None
        only = self._body.pieces[0]
        return only if isinstance(only, Expression) else None

    def resolve(self, scope: Scope = NOTHING) -> Any:
        """Give the value; raises StepError of type expression_error. A MissingError passes through."""
        return self._make(scope)


class _Text:
    """A text with expressions in it."""

    __slots__ = ("pieces",)

    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces


def template(value: Any) -> Template:
    """Read a template over any JSON value; raises ValidationError that names the wrong expression."""
    expressions: list[Expression] = []
    body = _read(value, expressions)
    return Template(body, tuple(expressions))


def _read(value: Any, expressions: list[Expression]) -> Any:
    match value:
        case str():
            pieces = _pieces(value)
            found = [piece for piece in pieces if isinstance(piece, Expression)]
            expressions.extend(found)
            return _Text(pieces) if found else "".join(str(piece) for piece in pieces)
        case list() | tuple():
            return [_read(item, expressions) for item in value]
        case dict():
            return {key: _read(item, expressions) for key, item in value.items()}
        case _:
            return value


@lru_cache(maxsize=CACHE_ENTRIES_MAX)
def _pieces(text: str) -> Pieces:
    if OPEN not in text:
        return (text,)
    pieces: list[str | Expression] = []
    literal, position = "", 0
    while (found := text.find(OPEN, position)) >= 0:
        if found > 0 and text[found - 1] == "\\":
            literal += text[position : found - 1] + OPEN
            position = found + len(OPEN)
            continue
        literal += text[position:found]
        end = end_of_expression(text, found + len(OPEN))
        if literal:
            pieces.append(literal)
        pieces.append(parse(text[found + len(OPEN) : end].strip()))
        literal, position = "", end + len(CLOSE)
    literal += text[position:]
    return (*pieces, literal) if literal or not pieces else tuple(pieces)


def _maker(body: Any) -> Make:
    """Give the function that makes the value, looked through once: a value of its own each time, which may be changed."""
    match body:
        case _Text(pieces=(Expression() as only,)):
            return only.evaluate
        case _Text(pieces=pieces):
            return lambda scope: _filled(pieces, scope)
        case dict():
            members = [(key, _maker(item)) for key, item in body.items()]
            return lambda scope: {key: make(scope) for key, make in members}
        case list():
            items = [_maker(item) for item in body]
            return lambda scope: [make(scope) for make in items]
        case _:
            return lambda _: body


def _filled(pieces: Pieces, scope: Scope) -> str:
    return "".join(piece if isinstance(piece, str) else _written(piece.evaluate(scope)) for piece in pieces)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else codec.dumps(in_order(value)).decode("utf-8", "surrogatepass")
