"""Every expression of a step, with what it may refer to (pure)."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from headrace.errors import ValidationError
from headrace.expressions.expression import Expression, parse
from headrace.expressions.scope import STEPS
from headrace.expressions.template import template
from headrace.specs.models import Step
from headrace.specs.problems import Path

BASE: Final = frozenset({"inputs", "trigger", STEPS, "variables", "run"})
IN_MAP: Final = BASE | {"item", "index"}
ITERATION: Final = "iteration"
IN_LOOP: Final = frozenset({ITERATION, "previous"})
TRIGGER: Final = frozenset({"trigger", "event"})


class Use(NamedTuple):
    """An expression and where it stands; `error` instead of it when it cannot be read. `truth`: it must be a bool."""

    path: Path
    roots: frozenset[str]
    expression: Expression | None = None
    error: str = ""
    truth: bool = False


def uses(step: Step, path: Path, *, repeated: bool = False) -> Iterator[Use]:
    """Give every expression of a step.

    `repeated`: it belongs to the body of a loop, so that it sees the round and what the one before gave.
    """
    for use in _uses(step, path):
        yield use._replace(roots=use.roots | IN_LOOP) if repeated else use


def _uses(step: Step, path: Path) -> Iterator[Use]:
    inner = IN_MAP if step.is_map else BASE
    if step.guard is not None:
        yield condition(step.guard, (*path, "condition"), BASE)
    if step.choice is not None:
        yield condition(step.choice.expression, (*path, "condition", "expression"), BASE)
    if step.is_map:
        yield from templates(step.map, (*path, "map"), BASE)
    yield from templates(step.with_, (*path, "with"), inner)
    if step.http is not None:
        for key, value in step.http.model_dump(exclude_unset=True).items():
            yield from templates(value, (*path, "http", key), inner)
    if step.integration is not None:
        yield from templates(step.integration.with_, (*path, "integration", "with"), inner)
    yield from templates(step.transform, (*path, "transform"), inner)
    yield from _gate(step, path)
    if step.approval is not None:
        yield from templates(step.approval.prompt, (*path, "approval", "prompt"), BASE)
    yield from templates(step.precondition, (*path, "precondition"), inner)
    for number, artifact in enumerate(step.artifacts):
        place = (*path, "artifacts", number)
        yield from templates(artifact.label, (*place, "label"), inner | {"output"})
        yield from templates(artifact.value, (*place, "value"), inner | {"output"})
    yield from templates(step.outputs, (*path, "outputs"), BASE | {"output"})
    yield from _steering(step, path, inner)


def _steering(step: Step, path: Path, inner: frozenset[str]) -> Iterator[Use]:
    if step.loop is not None:
        yield condition(step.loop.while_, (*path, "loop", "while"), BASE | {ITERATION})
    if step.sub_workflow is not None:
        yield from templates(step.sub_workflow.with_, (*path, "sub_workflow", "with"), inner)
    if step.wait is not None:
        yield from templates(step.wait.run, (*path, "wait", "run"), BASE)
        if step.wait.when is not None:
            yield condition(step.wait.when, (*path, "wait", "when"), BASE | {"event"})


def undoing(step: Step, path: Path) -> Iterator[Use]:
    """Give every expression of what undoes a step; it sees the step's own output, and is no reason to wait for others."""
    undo, place = step.compensate, (*path, "compensate")
    if undo is None:
        return
    roots = (IN_MAP if step.is_map else BASE) | {"output"}
    yield from templates(undo.with_, (*place, "with"), roots)
    if undo.http is not None:
        for key, value in undo.http.model_dump(exclude_unset=True).items():
            yield from templates(value, (*place, "http", key), roots)
    if undo.integration is not None:
        yield from templates(undo.integration.with_, (*place, "integration", "with"), roots)


def _gate(step: Step, path: Path) -> Iterator[Use]:
    if step.gate is None:
        return
    for key, value in step.gate.config.items():
        place = (*path, "gate", "config", key)
        if step.gate.type == "expression" and key == "expression":
            if isinstance(value, str):
                yield condition(value, place, BASE)
        else:
            yield from templates(value, place, BASE)


def condition(text: str, path: Path, roots: frozenset[str]) -> Use:
    """Give the use of a bare expression that must be true or false."""
    try:
        return Use(path, roots, parse(text), truth=True)
    except ValidationError as problem:
        return Use(path, roots, error=problem.message)


def templates(value: Any, path: Path, roots: frozenset[str]) -> Iterator[Use]:
    """Give the use of every expression in a template, each at its own place."""
    match value:
        case str():
            try:
                for expression in template(value).expressions:
                    yield Use(path, roots, expression)
            except ValidationError as problem:
                yield Use(path, roots, error=problem.message)
        case list():
            for number, item in enumerate(value):
                yield from templates(item, (*path, number), roots)
        case dict():
            for key, item in value.items():
                yield from templates(item, (*path, key), roots)
        case _:
            return


def named_steps(step: Step) -> list[str]:
    """Give the ids of the steps that a step's expressions refer to, sorted."""
    return sorted(
        {
            step_id
            for use in uses(step, ())
            if use.expression is not None
            for root, step_id in use.expression.references
            if root == STEPS and step_id is not None
        }
    )
