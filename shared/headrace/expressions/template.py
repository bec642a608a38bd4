r"""Templates: JSON values whose texts may hold `{{ … }}` with a CEL expression inside (pure).

A text that is one expression keeps the expression's type; in a mixed text a text stands as it is and anything else as
JSON. `\{{` is literal `{{`. Values are never expanded a second time. Keys are never expanded.
"""

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


class Template:
    """A parsed template over a JSON value."""

    __slots__ = ("_body", "expressions")

    def __init__(self, body: Any, expressions: tuple[Expression, ...]) -> None:
        self._body = body
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
        return _resolved(self._body, scope) if self.expressions else _literal(self._body)


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


def _literal(body: Any) -> Any:
    """Give a template without expressions as a value of its own, so that nobody changes the template through it."""
    match body:
        case list():
            return [_literal(item) for item in body]
        case dict():
            return {key: _literal(item) for key, item in body.items()}
        case _:
            return body


def _resolved(body: Any, scope: Scope) -> Any:
    kind = type(body)  # `_read` has made it of these alone
    if kind is _Text:
        return _filled(body.pieces, scope)
    if kind is dict:
        return {key: _resolved(item, scope) for key, item in body.items()}
    return [_resolved(item, scope) for item in body] if kind is list else body


def _filled(pieces: Pieces, scope: Scope) -> Any:
    if len(pieces) == 1 and isinstance(pieces[0], Expression):
        return pieces[0].evaluate(scope)
    return "".join(piece if isinstance(piece, str) else _written(piece.evaluate(scope)) for piece in pieces)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else codec.dumps(in_order(value)).decode("utf-8", "surrogatepass")
