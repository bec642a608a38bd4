"""Judging loops, waits, sub-workflows, maps' policies and compensation: what fits together in a step (pure)."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from headrace.events.parts import TOGETHER
from headrace.events.registry import EVENTS
from headrace.expressions.near import hint
from headrace.plans.durations import duration
from headrace.specs import graph
from headrace.specs.models import Retry, Step
from headrace.specs.problems import Path
from headrace.vocabulary import ATTEMPT_TIMEOUT_S_MAX, LOG_RUNS, NEVER_AGAIN

WRONG: Final = "validation_error"
DANGLING: Final = "unknown_dependency"
CYCLE: Final = "cycle_detected"
CALLS: Final = frozenset({"tool", "http", "integration"})
PERFORMED: Final = CALLS | {"gate"}
BOUNDED_ELSEWHERE: Final = MappingProxyType(
    {
        "approval": "; `expires` of the approval bounds it",
        "wait": "; `timeout` of the wait bounds a wait for a signal, an event or a run",
        "sub_workflow": "; `timeout: {step: …}` bounds it, and the child's own `timeout` each run of it",
        "loop": "; its steps have limits of their own",
    }
)
"""What bounds a step that no worker performs, where something does."""
TOLD: Final = frozenset(kind.type_name() for kind in EVENTS[LOG_RUNS]) - TOGETHER.keys()
"""Events that a run tells those who wait for it; what stands for several is told as these."""

Said = tuple[Path, str, str]


def shape_problems(step: Step, path: Path, known: frozenset[str], steps: Sequence[Step]) -> Iterator[Said]:
    """Give what is wrong with a step's loop, wait, policies and compensation."""
    yield from _loop(step, path, known, graph.parents(steps))
    yield from _branches(step, path, graph.parents(steps))
    yield from _wait(step, path)
    for name, only in (("on_item_error", "map"), ("concurrency", "map")):
        if name in step.model_fields_set and not step.is_map:
            yield (*path, name), f"{name} is for a {only} step alone", WRONG
    if step.is_map and step.kind == "transform" and "on_item_error" in step.model_fields_set:
        yield (*path, "on_item_error"), "a transform's list is computed as a whole: it has no items that fail", WRONG
    yield from _times(step, path)
    yield from _tries(step.retry, (*path, "retry"))
    yield from _undo(step, path)


def _loop(step: Step, path: Path, known: frozenset[str], inside: Mapping[str, str]) -> Iterator[Said]:
    if step.loop is None:
        return
    for number, name in enumerate(step.loop.steps):
        place = (*path, "loop", "steps", number)
        if name == step.id:
            yield place, f"the loop {step.id!r} names itself", CYCLE
        elif name not in known:
            yield place, f"unknown step {name!r} in the loop's body{hint(name, known)}", DANGLING
        elif inside.get(name) != step.id:
            yield place, f"step {name!r} is in the body of the loop {inside.get(name)!r} already", WRONG
        elif name in step.loop.steps[:number]:
            yield place, f"step {name!r} is named twice", WRONG
    way = [step.id]
    while way[-1] in inside and inside[way[-1]] not in way:
        way.append(inside[way[-1]])
    if inside.get(way[-1]) == step.id:
        yield (*path, "loop", "steps"), f"loops hold each other in a cycle: {'-'.join([*way, step.id])}", CYCLE


def _branches(step: Step, path: Path, inside: Mapping[str, str]) -> Iterator[Said]:
    """A condition decides only over steps that stand beside it: in the same loop's body, or in none."""
    if step.choice is None:
        return
    for branch, chosen in (("then", step.choice.then), ("else", step.choice.else_)):
        for number, name in enumerate(chosen):
            if inside.get(name) != inside.get(step.id):
                there = f"the body of the loop {inside[name]!r}" if name in inside else "no loop's body"
                message = f"step {name!r} is in {there}: a condition chooses among steps beside itself"
                yield (*path, "condition", branch, number), message, WRONG


def _wait(step: Step, path: Path) -> Iterator[Said]:
    wait = step.wait
    if wait is None:
        return
    place = (*path, "wait")
    named = [name for name in ("timer", "signal", "event") if getattr(wait, name) is not None]
    if wait.run is not None and "event" not in named:
        named.append("run")
    if len(named) != 1:
        said = f"this one names {' and '.join(named)}" if named else "this one names nothing"
        yield place, f"a wait is for a timer, a signal, an event or a run; {said}", WRONG
    if wait.timer is not None and wait.timeout is not None:
        yield (*place, "timeout"), "a timer needs no timeout", WRONG
    if wait.when is not None and wait.event is None and wait.run is None:
        yield (*place, "when"), "`when` chooses among events; a signal is named by its name alone", WRONG
    if wait.run is not None and (wait.signal is not None or wait.timer is not None):
        yield (*place, "run"), "`run` says whose event is waited for", WRONG
    if wait.run is not None and wait.event is not None and wait.event not in TOLD:
        yield (*place, "event"), f"no run has an event {wait.event!r}{hint(wait.event, TOLD)}", WRONG


def _times(step: Step, path: Path) -> Iterator[Said]:
    """Judge the limits of time: each bounds something, or it would be believed in and never heeded."""
    for name, limit in (("timeout", "attempt"), ("step_timeout", "step"), ("queue_timeout", "queue")):
        bounded = step.kind in PERFORMED or (name == "step_timeout" and step.kind == "sub_workflow")
        if getattr(step, name) is not None and not bounded:
            a = "an" if step.kind == "approval" else "a"
            said = f"{a} {step.kind} step has no {limit} timeout: no worker performs it"
            yield (*path, name), said + BOUNDED_ELSEWHERE.get(step.kind, ""), WRONG
    if step.timeout is not None and step.step_timeout is not None and step.step_timeout < step.timeout:
        yield (
            (*path, "step_timeout"),
            "a step's timeout bounds all its attempts: it cannot be shorter than one's",
            WRONG,
        )
    yield from _long(step.timeout, (*path, "timeout"))


def _long(timeout_s: float | None, path: Path) -> Iterator[Said]:
    if timeout_s is not None and timeout_s > ATTEMPT_TIMEOUT_S_MAX:
        yield path, f"an attempt may take {duration(ATTEMPT_TIMEOUT_S_MAX)} at most, not {duration(timeout_s)}", WRONG


def _tries(retry: Retry | None, path: Path) -> Iterator[Said]:
    """Judge how a step is tried again: what would never be heeded is refused."""
    if retry is None:
        return
    for number, name in enumerate(retry.retry_on):
        if name in NEVER_AGAIN:
            message = f"{name} is never tried again: the same call would meet it again"
            yield (*path, "retry_on", number), message, WRONG
    if "retry_on" in retry.model_fields_set and not retry.retry_on:
        yield (*path, "retry_on"), "retry_on names no error; without it every error is tried again", WRONG
    backoff = retry.backoff
    if backoff is not None and "max" in backoff.model_fields_set and backoff.max < backoff.initial:
        message = f"no delay is longer than max, and the first is {duration(backoff.initial)} already"
        yield (*path, "backoff", "max"), message, WRONG


def _undo(step: Step, path: Path) -> Iterator[Said]:
    undo = step.compensate
    if undo is None:
        return
    place = (*path, "compensate")
    if step.kind not in CALLS | {"sub_workflow"}:
        yield place, f"a {step.kind} step does nothing that could be undone", WRONG
    named = [kind for kind in ("tool", "http", "integration") if getattr(undo, kind) is not None]
    if len(named) != 1:
        said = f"this one names {' and '.join(named)}" if named else "this one names none"
        yield place, f"what undoes a step is one tool, http or integration call; {said}", WRONG
    yield from _long(undo.timeout, (*place, "timeout"))
    yield from _tries(undo.retry, (*place, "retry"))
    if undo.with_ and undo.tool is None:
        yield (*place, "with"), "`with` holds the arguments of a tool", WRONG
