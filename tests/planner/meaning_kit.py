"""Random workflows, and a second reading of what they mean: after the docs alone, it shares no code with the planner."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from headrace.testing.simulation.chance import Chance

Scope = Callable[[str], Any]
"""Gives the value of a root by its name; raises WrongError where there is none."""
INPUTS: Final[dict[str, Any]] = {"n": 3, "s": "ab", "l": [1, 2, 3]}
ROUNDS_MAX: Final = 4
CONSTANTS: Final[dict[str, list[Any]]] = {"int": [0, 2, 5], "text": ["", "b"], "list": [[1, 2], []]}


class WrongError(Exception):
    """An expression cannot be evaluated."""


class Expr(NamedTuple):
    """An expression as it is written, and what it is worth."""

    text: str
    value: Callable[[Scope], Any]


@dataclass
class Meant:
    """A step: how it is written, and what is meant by it."""

    id: str
    kind: str
    written: dict[str, Any]
    value: Callable[[Scope], Any] = lambda _: None
    guard: Expr | None = None
    fails: Expr | None = None
    goes_on: bool = False
    collects: bool = False
    items: Callable[[Scope], Any] | None = None
    sides: dict[bool, list[str]] = field(default_factory=dict)
    body: "list[Meant]" = field(default_factory=list)
    part: Expr | None = None


def performed(value: Any) -> dict[str, Any]:
    """Give what the tool `look` gives for a value."""
    return {"value": value, "list": [1, value], "text": f"t{value}" if isinstance(value, str) else "t"}


# --- expressions -------------------------------------------------------------------------------------------------


def path(root: str, *keys: str | int) -> Expr:
    """Walk from a root."""

    def value(scope: Scope) -> Any:
        found = scope(root)
        for key in keys:
            there = (isinstance(found, dict) and key in found) or (
                isinstance(found, list) and isinstance(key, int) and key < len(found)
            )
            if not there:
                raise WrongError
            found = found[key]
        return found

    return Expr(root + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys), value)


def size(one: Expr) -> Expr:
    """Count."""

    def value(scope: Scope) -> int:
        found = one.value(scope)
        if not isinstance(found, str | list | dict):
            raise WrongError
        return len(found)

    return Expr(f"size({one.text})", value)


def before(*keys: str) -> Expr:
    """Read what a step gave in the round before, or 0 in the first."""
    later = Expr("(iteration > 1)", lambda scope: scope("iteration") > 1)
    return chosen(later, path("previous", *keys), literal(0))


def literal(value: Any) -> Expr:
    """Write a constant."""
    return Expr(repr(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"'), lambda _: value)


def plus(one: Expr, other: Expr) -> Expr:
    """Add two of a kind."""

    def value(scope: Scope) -> Any:
        left, right = one.value(scope), other.value(scope)
        if type(left) is not type(right) or type(left) not in {int, str, list}:
            raise WrongError
        return left + right

    return Expr(f"({one.text} + {other.text})", value)


def less(one: Expr, other: Expr) -> Expr:
    """Compare two of a kind."""

    def value(scope: Scope) -> bool:
        left, right = one.value(scope), other.value(scope)
        if type(left) is not type(right) or type(left) not in {int, str}:
            raise WrongError
        return bool(left < right)

    return Expr(f"({one.text} < {other.text})", value)


def either(one: Expr, other: Expr) -> Expr:
    """Say that one of two holds; the error of one is none when the other holds."""

    def value(scope: Scope) -> bool:
        found = [_truth_or_nothing(each, scope) for each in (one, other)]
        if True not in found and None in found:
            raise WrongError
        return True in found

    return Expr(f"({one.text} || {other.text})", value)


def _truth_or_nothing(one: Expr, scope: Scope) -> bool | None:
    try:
        value = one.value(scope)
    except WrongError:
        return None
    return value if isinstance(value, bool) else None


def chosen(condition: Expr, one: Expr, other: Expr) -> Expr:
    """Choose between two."""
    return Expr(
        f"({condition.text} ? {one.text} : {other.text})",
        lambda scope: (one if truth(condition, scope) else other).value(scope),
    )


def truth(one: Expr, scope: Scope) -> bool:
    """Give the value of a condition; raises WrongError when it is neither true nor false."""
    value = one.value(scope)
    if not isinstance(value, bool):
        raise WrongError
    return value


# --- writing -----------------------------------------------------------------------------------------------------


class Author:
    """Writes one workflow, drawn from its number alone."""

    def __init__(self, number: int) -> None:
        self._draw = Chance(f"meant {number}")
        self.steps: list[Meant] = []
        self._number = number
        self._inside: tuple[str, ...] = ()
        """The steps of the loop whose body is written just now."""

    def document(self, *, fuse: bool = True) -> dict[str, Any]:
        """Give the workflow as a document."""
        inputs = {name: {"type": "any", "default": value} for name, value in INPUTS.items()}
        steps = [one.written for step in self.steps for one in (step, *step.body)]
        spec = {"inputs": inputs, "steps": steps, "fuse": fuse}
        return {
            "apiVersion": "headrace/v1",
            "kind": "Workflow",
            "metadata": {"name": f"meant-{self._number}"},
            "spec": spec,
        }

    def write(self) -> "Author":
        """Write the steps."""
        for place in range(self._draw.randint(8, 16)):
            kinds = [self._tool, self._tool, self._transform, self._map, self._gate, self._loop, self._branch]
            self._draw.choice(kinds)(f"s{place}", self.steps)
        return self

    def _step(self, id: str, kind: str, known: list[Meant], written: dict[str, Any], **more: Any) -> Meant:
        step = Meant(id, kind, {"id": id, **written}, **more)
        beside = [one.id for one in known if one.kind != "branch" and not one.id.startswith(f"{id}_")]
        if beside and self._draw.happens(0.4):
            step.written["depends_on"] = [self._draw.choice(beside)]
        if self._draw.happens(0.15) and kind != "branch":
            step.guard = self._truth(known)
            step.written["condition"] = step.guard.text
        if self._draw.happens(0.98) and kind != "branch":
            step.goes_on, step.written["on_error"] = True, "continue"
        return step

    def _tool(self, id: str, known: list[Meant]) -> None:
        value, more = self._any(known), {}
        with_: dict[str, Any] = {"value": f"{{{{ {value.text} }}}}"}
        if self._draw.happens(0.35):
            more["fails"] = fails = self._truth(known)
            with_["fail"] = f"{{{{ {fails.text} }}}}"
        step = self._step(id, "tool", known, {"tool": "look", "with": with_}, value=value.value, **more)
        if self._draw.happens(0.5):
            own = path("output", self._draw.choice(["value", "text"]))
            step.part = plus(own, before(id, "outputs", "part")) if self._inside and self._draw.happens(0.6) else own
            step.written["outputs"] = {"part": f"{{{{ {step.part.text} }}}}"}
        known.append(step)

    def _transform(self, id: str, known: list[Meant]) -> None:
        value = self._any(known)
        known.append(self._step(id, "transform", known, {"transform": f"{{{{ {value.text} }}}}"}, value=value.value))

    def _map(self, id: str, known: list[Meant]) -> None:
        items = path("inputs", "l") if self._draw.happens(0.6) else self._of("list", known)
        value = plus(path("item"), self._of("int", known)) if self._draw.happens(0.5) else path("index")
        fails = less(path("item"), literal(self._draw.randint(0, 3)))
        collects = self._draw.happens(0.7)
        with_ = {"value": f"{{{{ {value.text} }}}}", "fail": f"{{{{ {fails.text} }}}}"}
        written = {
            "map": f"{{{{ {items.text} }}}}",
            "tool": "look",
            "with": with_,
            "on_item_error": "collect" if collects else "fail_fast",
        }
        known.append(
            self._step(id, "map", known, written, value=value.value, fails=fails, items=items.value, collects=collects)
        )

    def _gate(self, id: str, known: list[Meant]) -> None:
        holds = self._truth(known)
        gate = {"type": "expression", "expression": holds.text}
        known.append(self._step(id, "gate", known, {"gate": gate}, value=holds.value))

    def _loop(self, id: str, known: list[Meant]) -> None:
        body: list[Meant] = []
        self._inside = (f"{id}_one", f"{id}_two")
        self._tool(f"{id}_one", body)
        self._draw.choice([self._transform, self._gate])(f"{id}_two", body)
        self._inside = ()
        rounds = less(path("iteration"), literal(self._draw.randint(0, 3)))
        again = either(rounds, self._truth(body)) if self._draw.happens(0.3) else rounds
        loop = {"while": again.text, "steps": [one.id for one in body], "max_iterations": ROUNDS_MAX}
        known.append(self._step(id, "loop", known, {"loop": loop}, value=again.value, body=body))

    def _branch(self, id: str, known: list[Meant]) -> None:
        holds, sides = self._truth(known), {True: [f"{id}_then"], False: [f"{id}_else"]}
        written = {"condition": {"expression": holds.text, "then": sides[True], "else": sides[False]}}
        branch = self._step(id, "branch", known, written, value=holds.value, sides=sides)
        known.append(branch)
        ends = (*sides[True], *sides[False])
        known += [Meant(name, "transform", {"id": name, "transform": 1}, value=lambda _: 1) for name in ends]
        join = {"id": f"{id}_join", "transform": 2, "depends_on": [*ends]}
        known.append(Meant(f"{id}_join", "transform", join, value=lambda _: 2))

    def _any(self, known: list[Meant]) -> Expr:
        return self._of(self._draw.choice(["int", "text", "list"]), known)

    def _of(self, kind: str, known: list[Meant], depth: int = 0) -> Expr:
        drawn = self._draw.random()
        if depth < 2 and drawn < 0.25:
            return plus(self._of(kind, known, depth + 1), self._of(kind, known, depth + 1))
        if depth < 2 and drawn < 0.4:
            return chosen(
                self._truth(known, depth + 1), self._of(kind, known, depth + 1), self._of(kind, known, depth + 1)
            )
        sources = self._sources(kind, known)
        if drawn < 0.9:
            return self._draw.choice(sources)
        return literal(self._draw.choice(CONSTANTS[kind]))

    def _sources(self, kind: str, known: list[Meant]) -> list[Expr]:
        found = [path("inputs", {"int": "n", "text": "s", "list": "l"}[kind])]
        for step in (inner for one in known for inner in (one, *one.body)):
            at = ("steps", step.id)
            if step.kind == "tool":
                found.append(path(*at, "output", {"int": "value", "text": "text", "list": "list"}[kind]))
                found += [path(*at, "outputs", "part")] if step.part else []
            if kind == "text":
                found.append(path(*at, "status"))
            elif kind == "int" and step.kind == "map" and step.collects:
                found.append(size(path(*at, "failed")))
            elif kind == "int" and step.kind == "loop":
                found.append(path(*at, "output", "iterations"))
            elif kind == "list" and step.kind == "map":
                found.append(path(*at, "output"))
        if self._inside:
            one = self._inside[0]
            found.append(before(one, "output", {"int": "value", "text": "text", "list": "list"}[kind]))
            found += [before(one, "outputs", "part"), path("iteration")] if kind == "int" else []
        return found

    def _truth(self, known: list[Meant], depth: int = 0) -> Expr:
        kind = self._draw.choice(["int", "text"])
        one = less(self._of(kind, known, depth + 1), self._of(kind, known, depth + 1))
        return either(one, self._truth(known, depth + 1)) if depth < 2 and self._draw.happens(0.3) else one
