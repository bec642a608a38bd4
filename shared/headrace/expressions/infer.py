"""The type of an expression, and what in it is certain to fail (pure).

An operation is wrong when no combination of the kinds that its operands may have allows it. What an expression guards by
`type(x)` is not judged, and what is not known is `ANY`, with which everything is allowed.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, assert_never

from headrace.expressions.functions import NAMESPACES
from headrace.expressions.near import hint
from headrace.expressions.references import MACROS
from headrace.expressions.scope import ROOTS
from headrace.expressions.signatures import BINARY, SIGNATURES, UNARY
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
from headrace.expressions.types import ANY, BOOL, Type, list_of, map_of, of, union

FRAGMENT_CHARS_MAX: Final = 80
NUMBERS: Final = frozenset({"int", "uint", "double"})
TEST_BY_TYPE: Final = "type"
LEAST_MACRO_ARGUMENTS: Final = 2

Root = Callable[[str], Type]


class Inferred(NamedTuple):
    """The type of an expression, and why it is wrong, in sentences."""

    type: Type
    errors: tuple[str, ...]


def infer(text: str, root: Root) -> Inferred:
    """Judge an expression that can be parsed; `root` gives the type of `inputs`, `steps` and so on."""
    node = tree(text)
    if node is None:
        return Inferred(ANY, ())
    judge = _Judge(root)
    try:
        known = judge.type(node, {})
    except RecursionError:
        return Inferred(ANY, ())  # too long a chain to be followed; what is not known is no mistake
    return Inferred(known, tuple(dict.fromkeys(judge.errors)))


class _Judge:
    def __init__(self, root: Root) -> None:
        self._root = root
        self.errors: list[str] = []

    def type(self, node: Node, bound: Mapping[str, Type]) -> Type:
        match node:
            case Literal(kind=kind):
                return of(kind)
            case Name(name=name):
                if name in bound:
                    return bound[name]
                return self._root(name) if name in ROOTS else ANY
            case Select():
                return self._select(node, bound)
            case Index():
                return self._index(node, bound)
            case Call():
                return self._call(node, bound)
            case Unary():
                return self._unary(node, bound)
            case Binary():
                return self._binary(node, bound)
            case Ternary():
                self._truth(node.condition, bound, "before ?")
                yes, no = (self._guarded(node.condition, side, bound) for side in (node.yes, node.no))
                return union((yes, no))
            case ListOf(items=items):
                return list_of(union([self.type(item, bound) for item in items]) if items else None)
            case MapOf():
                return self._map(node, bound)
            case _:
                assert_never(node)

    def _wrong(self, why: str) -> Type:
        self.errors.append(why)
        return ANY

    def _guarded(self, guard: Node, node: Node, bound: Mapping[str, Type]) -> Type:
        """Give the type of what is evaluated only after a guard; nothing is said of it when the guard tests a type."""
        before = len(self.errors)
        known = self.type(node, bound)
        if _calls(guard, TEST_BY_TYPE):
            del self.errors[before:]
        return known

    def _truth(self, node: Node, bound: Mapping[str, Type], where: str) -> None:
        known = self.type(node, bound)
        if "bool" not in known.kinds:
            self._wrong(f"{_shown(node)} is {known}; {where} it must be true or false: compare it with something")

    def _select(self, node: Select, bound: Mapping[str, Type]) -> Type:
        target = self.type(node.target, bound)
        if "map" not in target.kinds:
            return self._wrong(f"{_shown(node.target)} is {target} and has no field {node.key!r}")
        return self._field(node.target, target, node.key)

    def _field(self, node: Node, target: Type, key: str) -> Type:
        known = target.field(key)
        if known is None:
            return self._wrong(f"{_shown(node)} has no field {key!r}{hint(key, target.fields or ())}")
        return known

    def _index(self, node: Index, bound: Mapping[str, Type]) -> Type:
        target, key = self.type(node.target, bound), self.type(node.key, bound)
        if not target.kinds & {"list", "map"}:
            return self._wrong(f"{_shown(node.target)} is {target}; [ ] takes an element of a list or a map")
        found: list[Type] = []
        if "list" in target.kinds:
            if key.kinds & {"int", "uint"}:
                found.append(target.items())
            elif "map" not in target.kinds:
                return self._wrong(
                    f"{_shown(node.target)} is a list: its index must be a whole number, and {_shown(node.key)} is {key}"
                )
        if "map" in target.kinds:
            plain = node.key.value if isinstance(node.key, Literal) else None
            if not isinstance(plain, str):
                found.append(ANY)
            elif "list" in target.kinds:
                found.append(target.field(plain) or ANY)
            else:
                found.append(self._field(node.target, target, plain))
        return union(found)

    def _unary(self, node: Unary, bound: Mapping[str, Type]) -> Type:
        operand = self.type(node.operand, bound)
        kinds = operand.kinds & UNARY[node.operator]
        if kinds:
            return Type(kinds)
        wanted = "true or false" if node.operator == "!" else "a number"
        return self._wrong(f"{_shown(node.operand)} is {operand}; {node.operator} takes {wanted}")

    def _binary(self, node: Binary, bound: Mapping[str, Type]) -> Type:
        operator = node.operator
        if operator in {"&&", "||"}:
            self._truth(node.left, bound, f"beside {operator}")
            before = len(self.errors)
            self._truth(node.right, bound, f"beside {operator}")
            if _calls(node.left, TEST_BY_TYPE):
                del self.errors[before:]
            return BOOL
        left, right = self.type(node.left, bound), self.type(node.right, bound)
        if operator in {"==", "!="}:
            return BOOL
        if operator == "in":
            if right.kinds & {"list", "map"}:
                return BOOL
            advice = f"; use {_shown(node.right)}.contains({_shown(node.left)})" if right.kinds == {"string"} else ""
            return self._wrong(f"{_shown(node.right)} is {right}; `in` looks into a list or a map{advice}")
        table = BINARY[operator]
        kinds = {kind for one in left.kinds for other in right.kinds if (kind := table.get((one, other))) is not None}
        if not kinds:
            return self._wrong(
                f"{_shown(node.left)} is {left} and {_shown(node.right)} is {right}, which `{operator}` cannot take "
                f"together; {_remedy(node, left, right)}"
            )
        element = union((left.items(), right.items())) if "list" in kinds and "map" not in right.kinds else None
        return Type(frozenset(kinds), element=element)

    def _map(self, node: MapOf, bound: Mapping[str, Type]) -> Type:
        fields: dict[str, Type] = {}
        stated = True
        for key, value in node.entries:
            self.type(key, bound)
            known = self.type(value, bound)
            if isinstance(key, Literal) and isinstance(key.value, str):
                fields[key.value] = known
            else:
                stated = False
        return map_of(fields, closed=True) if stated else of("map")

    def _call(self, node: Call, bound: Mapping[str, Type]) -> Type:
        target, name = node.target, node.function
        if name == "has" and target is None and len(node.arguments) == 1:
            return self._has(node.arguments[0], bound)
        if name in MACROS and target is not None and len(node.arguments) >= LEAST_MACRO_ARGUMENTS:
            variable = node.arguments[0]
            return self._macro(node, target, variable.name, bound) if isinstance(variable, Name) else ANY
        given: list[tuple[Node, Type]] = []
        if isinstance(target, Name) and target.name in NAMESPACES and target.name not in bound:
            name = f"{target.name}.{name}"
        elif target is not None:
            given.append((target, self.type(target, bound)))
        given += [(argument, self.type(argument, bound)) for argument in node.arguments]
        signature = SIGNATURES.get(name)
        if signature is None:
            return ANY
        for (argument, known), takes in zip(given, signature.takes, strict=False):
            if not known.kinds & takes:
                wanted = Type(takes - {"optional", "type"})
                return self._wrong(
                    f"{_shown(argument)} is {known}; {name}() takes {wanted} there{_instead(name, known)}"
                )
        return signature.gives([known for _, known in given])

    def _has(self, node: Node, bound: Mapping[str, Type]) -> Type:
        if isinstance(node, Select):
            target = self.type(node.target, bound)
            if "map" not in target.kinds:
                return self._wrong(f"{_shown(node.target)} is {target}; has() looks into a map")
        return BOOL

    def _macro(self, node: Call, target: Node, variable: str, bound: Mapping[str, Type]) -> Type:
        over = self.type(target, bound)
        if not over.kinds & {"list", "map"}:
            return self._wrong(f"{_shown(target)} is {over}; .{node.function}() goes over a list or a map")
        each = over.items() if "map" not in over.kinds else ANY
        inner = {**bound, variable: each}
        body = node.arguments[1:]
        if node.function == "map":
            for condition in body[:-1]:
                self._truth(condition, inner, "as the condition of .map()")
            return list_of(self._guarded(body[0], body[-1], inner) if len(body) > 1 else self.type(body[-1], inner))
        self._truth(body[0], inner, f"as the condition of .{node.function}()")
        return list_of(each) if node.function == "filter" else BOOL


def _calls(node: Node, function: str) -> bool:
    """Tell whether a tree calls a function anywhere."""
    match node:
        case Call(function=name, target=target, arguments=arguments):
            return name == function or any(
                _calls(one, function) for one in (*arguments, *((target,) if target else ()))
            )
        case Literal() | Name():
            return False
        case Select(target=target):
            return _calls(target, function)
        case Index(target=target, key=key):
            return _calls(target, function) or _calls(key, function)
        case Unary(operand=operand):
            return _calls(operand, function)
        case Binary(left=left, right=right):
            return _calls(left, function) or _calls(right, function)
        case Ternary(condition=condition, yes=yes, no=no):
            return any(_calls(one, function) for one in (condition, yes, no))
        case ListOf(items=items):
            return any(_calls(one, function) for one in items)
        case MapOf(entries=entries):
            return any(_calls(one, function) for entry in entries for one in entry)
        case _:
            assert_never(node)


def _shown(node: Node) -> str:
    return node.text if len(node.text) <= FRAGMENT_CHARS_MAX else f"{node.text[:FRAGMENT_CHARS_MAX]}…"


def _remedy(node: Binary, left: Type, right: Type) -> str:
    one, other = left.kinds - {"null"}, right.kinds - {"null"}
    if one <= NUMBERS and other <= NUMBERS:
        return "convert one with int(x) or double(x)"
    for operand, known, beside in ((node.left, one, other), (node.right, other, one)):
        if known == {"string"} and beside <= NUMBERS:
            whole = f"int({_shown(operand)})" if beside != {"double"} else f"double({_shown(operand)})"
            number = node.right if operand is node.left else node.left
            return f"convert with {whole}" + (f", or string({_shown(number)})" if node.operator == "+" else "")
    return "convert one with string(x), int(x) …" if node.operator == "+" else "convert one with int(x), double(x) …"


def _instead(name: str, known: Type) -> str:
    return "; write it with json(x)" if name == "string" and known.kinds else ""
