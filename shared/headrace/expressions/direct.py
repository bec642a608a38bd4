"""Evaluating the common part of CEL on Python values themselves, without giving them to the library (pure).

The library converts every value that it is given, 1 to 3 microseconds each, which is most of its time. A program here
gives a result only where that is certain to be the library's; at anything else, any error above all, it gives up
(`Unsure`) and the library is asked, whose answer and whose errors count. `tests/shared/test_expressions_direct.py` holds
the one against the other.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, assert_never, cast

from headrace.expressions.functions import FUNCTIONS, NAMESPACES
from headrace.expressions.references import MACROS
from headrace.expressions.scope import ROOTS, STEPS, Scope
from headrace.expressions.series import Series, whole
from headrace.expressions.syntax import (
    Binary,
    Call,
    Index,
    ListOf,
    Literal,
    MapOf,
    Name,
    Node,
    Select,
    Ternary,
    Unary,
    tree,
)

INT_MAX: Final = 2**63 - 1
DEPTH_MAX: Final = 60
MACRO_ARGUMENTS: Final = 2
LITERALS: Final = {"true": True, "false": False, "null": None}
CALLED: Final = frozenset(
    {"sum", "first", "last", "join", "keys", "values", "json", "lowerAscii", "upperAscii", "trim"}
)
"""Functions that are Python's, and that take JSON values as the library gives them."""

Frame = dict[str, Any]
Program = Callable[[Scope, Frame], Any]


class Unsure(Exception):  # noqa: N818  (nothing is wrong: the library is asked)
    """This cannot tell what the library would give."""


def program(text: str) -> Program | None:
    """Give the program of an expression; None when it holds anything beyond the common part."""
    node = tree(text)
    if node is None:
        return None
    try:
        return _program(node, frozenset(), 0)
    except (Unsure, RecursionError):
        return None


def _program(node: Node, bound: frozenset[str], depth: int) -> Program:
    if depth > DEPTH_MAX:
        raise Unsure
    match node:
        case Literal():
            return _literal(node)
        case Name(name=name):
            return _name(name, bound)
        case Select():
            return _select(node, bound, depth + 1)
        case Index(target=target, key=Literal() as key) if key.kind in {"int", "string"} and key.value is not None:
            inner, place = _program(target, bound, depth + 1), key.value
            return lambda scope, frame: _item(inner(scope, frame), place)
        case Unary(operator=operator, operand=operand):
            inner = _program(operand, bound, depth + 1)
            if operator == "!":
                return lambda scope, frame: not _truth(inner(scope, frame))
            return lambda scope, frame: _difference(0, inner(scope, frame))
        case Binary():
            return _binary(node, bound, depth + 1)
        case Ternary(condition=condition, yes=yes, no=no):
            test, one, other = (_program(part, bound, depth + 1) for part in (condition, yes, no))
            return lambda scope, frame: (one if _truth(test(scope, frame)) else other)(scope, frame)
        case ListOf(items=items):
            programs = [_program(item, bound, depth + 1) for item in items]
            return lambda scope, frame: [each(scope, frame) for each in programs]
        case Call():
            return _call(node, bound, depth + 1)
        case MapOf() | Index():
            raise Unsure
        case _:
            assert_never(node)


def _select(node: Select, bound: frozenset[str], depth: int) -> Program:
    key = node.key
    if isinstance(node.target, Name) and node.target.name == STEPS and STEPS not in bound:
        return lambda scope, _: _step(scope, key)
    inner = _program(node.target, bound, depth)
    return lambda scope, frame: _field(inner(scope, frame), key)


def _literal(node: Literal) -> Program:
    if node.kind == "int" and isinstance(node.value, int) and node.value <= INT_MAX:
        value: Any = node.value
    elif node.kind == "string" and node.value is not None:
        value = node.value
    elif node.text in LITERALS:
        value = LITERALS[node.text]
    else:
        raise Unsure
    return lambda _, __: value


def _name(name: str, bound: frozenset[str]) -> Program:
    if name in bound:
        return lambda _, frame: frame[name]
    if name in ROOTS and name != STEPS:
        return lambda scope, _: _root(scope, name)
    raise Unsure


def _root(scope: Scope, name: str) -> Any:
    try:
        return scope.root(name)
    except KeyError:
        raise Unsure from None


def _step(scope: Scope, step_id: str) -> Any:
    try:
        return scope.step(step_id)
    except KeyError:
        raise Unsure from None


def _field(value: Any, key: str) -> Any:
    if isinstance(value, Mapping) and key in value:
        return value[key]
    raise Unsure


def _item(value: Any, key: str | int) -> Any:
    if isinstance(value, list | Series) and isinstance(key, int) and key < len(value):
        return value[key]
    if isinstance(key, str):
        return _field(value, key)
    raise Unsure


def _truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise Unsure


def _list(value: Any) -> Iterable[Any]:
    if type(value) is list or type(value) is Series:
        return cast("Iterable[Any]", value)
    raise Unsure


def _binary(node: Binary, bound: frozenset[str], depth: int) -> Program:
    left, right = _program(node.left, bound, depth), _program(node.right, bound, depth)
    if node.operator == "&&":
        return lambda scope, frame: _truth(left(scope, frame)) and _truth(right(scope, frame))
    if node.operator == "||":
        return lambda scope, frame: _truth(left(scope, frame)) or _truth(right(scope, frame))
    if node.operator == "in":
        return lambda scope, frame: _held(left(scope, frame), _list(right(scope, frame)))
    performed = OPERATIONS.get(node.operator)
    if performed is None:
        raise Unsure
    return lambda scope, frame: performed(left(scope, frame), right(scope, frame))


def _equal(left: Any, right: Any) -> bool:
    kind = type(left)
    if left is None or right is None:
        return left is right
    if kind is not type(right) or kind not in {str, int, bool}:
        raise Unsure
    if kind is int and not (-INT_MAX <= left <= INT_MAX and -INT_MAX <= right <= INT_MAX):
        raise Unsure
    return bool(left == right)


def _held(item: Any, items: Iterable[Any]) -> bool:
    return any(_equal(item, one) for one in items)


def _ordered(left: Any, right: Any) -> None:
    kind = type(left)
    if kind is not type(right) or kind not in {str, int}:
        raise Unsure
    if kind is int and not (-INT_MAX <= left <= INT_MAX and -INT_MAX <= right <= INT_MAX):
        raise Unsure


def _less(left: Any, right: Any) -> bool:
    _ordered(left, right)
    return bool(left < right)


def _most(left: Any, right: Any) -> bool:
    _ordered(left, right)
    return bool(left <= right)


def _sum(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        return [*left, *right]
    return _whole(left, right, left + right) if type(left) is type(right) is int else _unsure()


def _difference(left: Any, right: Any) -> Any:
    return _whole(left, right, left - right) if type(left) is type(right) is int else _unsure()


def _product(left: Any, right: Any) -> Any:
    return _whole(left, right, left * right) if type(left) is type(right) is int else _unsure()


def _whole(left: int, right: int, result: int) -> int:
    if max(abs(left), abs(right), abs(result)) > INT_MAX:
        raise Unsure
    return result


def _unsure() -> Any:
    raise Unsure


OPERATIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": _equal,
    "!=": lambda left, right: not _equal(left, right),
    "<": _less,
    "<=": _most,
    ">": lambda left, right: _less(right, left),
    ">=": lambda left, right: _most(right, left),
    "+": _sum,
    "-": _difference,
    "*": _product,
}


def _call(node: Call, bound: frozenset[str], depth: int) -> Program:
    name, target, arguments = node.function, node.target, node.arguments
    if name == "has" and target is None and len(arguments) == 1:
        return _has(arguments[0], bound, depth)
    if name in MACROS and target is not None:
        return _macro(node, target, bound, depth)
    if isinstance(target, Name) and target.name in NAMESPACES:
        raise Unsure
    given = [_program(one, bound, depth) for one in ((target, *arguments) if target is not None else arguments)]
    if name == "size" and len(given) == 1:
        sized = given[0]
        return lambda scope, frame: _size(sized(scope, frame))
    if name == "string" and len(given) == 1:
        written = given[0]
        return lambda scope, frame: _text(written(scope, frame))
    if name in CALLED and given:
        function = FUNCTIONS[name]
        return lambda scope, frame: _called(function, [each(scope, frame) for each in given])
    raise Unsure


def _called(function: Callable[..., Any], given: list[Any]) -> Any:
    arguments = [whole(argument) for argument in given]
    for argument in arguments:
        sure(argument)
    try:
        return function(*arguments)
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError):
        raise Unsure from None


def _size(value: Any) -> int:
    # The library counts the bytes of a text, not its characters.
    if type(value) in {list, dict, Series} or (type(value) is str and value.isascii()):
        return len(value)
    raise Unsure


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is int and -INT_MAX <= value <= INT_MAX:
        return str(value)
    raise Unsure


def _has(node: Node, bound: frozenset[str], depth: int) -> Program:
    if not isinstance(node, Select) or (
        isinstance(node.target, Name) and node.target.name not in bound | (ROOTS - {STEPS})
    ):
        raise Unsure
    inner, key = _program(node.target, bound, depth), node.key

    def has(scope: Scope, frame: Frame) -> bool:
        value = inner(scope, frame)
        if not isinstance(value, Mapping):
            raise Unsure
        return key in value

    return has


def _macro(node: Call, target: Node, bound: frozenset[str], depth: int) -> Program:
    if len(node.arguments) != MACRO_ARGUMENTS or not isinstance(node.arguments[0], Name):
        raise Unsure
    name = node.arguments[0].name
    over, body = _program(target, bound, depth), _program(node.arguments[1], bound | {name}, depth)

    def each(scope: Scope, frame: Frame) -> Iterator[tuple[Any, Any]]:
        inner = dict(frame)
        for item in _list(over(scope, frame)):
            inner[name] = item
            yield item, body(scope, inner)

    match node.function:
        case "map":
            return lambda scope, frame: [value for _, value in each(scope, frame)]
        case "filter":
            return lambda scope, frame: [item for item, value in each(scope, frame) if _truth(value)]
        case "all":
            return lambda scope, frame: False not in _truths(each(scope, frame))
        case "exists":
            return lambda scope, frame: True in _truths(each(scope, frame))
        case _:
            raise Unsure


def _truths(found: Iterable[tuple[Any, Any]]) -> list[bool]:
    return [_truth(value) for _, value in found]


def sure(value: Any) -> Any:
    """Give a value in the library's own form, keys of maps sorted; raises Unsure where the library would change it."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        if not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
            raise Unsure
        return value
    if kind is int:
        return _whole(value, 0, value)
    if kind is float and math.isfinite(value):
        return value
    if kind is list or kind is Series:
        return [sure(item) for item in value]
    if kind is dict and all(type(key) is str for key in value):
        return {key: sure(value[key]) for key in sorted(value)}
    raise Unsure
