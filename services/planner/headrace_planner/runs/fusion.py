"""Chains in a run: what an order brings for the steps that follow it, and where their results stand (pure).

Which steps follow each other is the plan's (`headrace.plans.fusion`); how far a chain reaches now is the run's: only to
steps that nothing else keeps from beginning, and that read nothing which is too large to travel with the order.
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

import msgspec

from headrace import codec
from headrace.codec import Raw
from headrace.decider import Library, MissingError, Stop, Unchain
from headrace.errors import StepError, ValidationError
from headrace.events.runs import CancelRequested, RunCancelled, RunEvent, RunFailed
from headrace.events.steering import RunPaused
from headrace.expressions.scope import STEPS
from headrace.messages import ReportAttempt
from headrace.plans.model import CallStep
from headrace.vocabulary import FUSE_BYTES_MAX, FUSE_STEPS_MAX, STEP_FINAL, AttemptStatus, StepStatus
from headrace.wire import EndChain, FusedStep, Interrupt, WorkOrder
from headrace_planner.runs.graph import tool_name
from headrace_planner.runs.kept import Try
from headrace_planner.runs.orders import digest_for
from headrace_planner.runs.quotas import quota_of
from headrace_planner.runs.scope import RunScope, scope_for
from headrace_planner.runs.state import Instance, Run

INPUTS: Final = "inputs"


class Standing(Enum):
    """Where the result of a chained attempt stands when it comes.

    USUAL: it is judged like any. REFUSED: no chain of the plan has it. EARLY: before its turn, or of an attempt that
    never began: nothing is known of it. OTHER: of other arguments than those of the plan. PAUSED: only a pause has kept
    its step from beginning here.
    """

    USUAL = auto()
    REFUSED = auto()
    EARLY = auto()
    OTHER = auto()
    PAUSED = auto()


class Link(msgspec.Struct, frozen=True):
    """What every run's chain says of a step, and what its template reads: steps by id, and other roots."""

    step: FusedStep
    steps: tuple[str, ...]
    roots: tuple[str, ...]


class Outside:
    """What a chain reads that it does not make, as it grows."""

    def __init__(self, run: Run, scope: RunScope) -> None:
        self._run, self._scope = run, scope
        self._roots: dict[str, Raw] = {}
        self._steps: dict[str, Raw] = {}
        self._size = 0

    def bring(self, link: Link, members: set[str]) -> bool:
        """Take in what a link reads; False when something of it cannot travel. Raises as the scope does."""
        if not link.roots and members.issuperset(link.steps):
            self._size += len(link.step.arguments)
            return self._size <= FUSE_BYTES_MAX
        steps, roots = dict[str, Raw](), dict[str, Raw]()
        for name in link.steps:
            if name in members or name in self._steps:
                continue
            known = self._run.peek(name)
            if known.status not in STEP_FINAL or known.blob is not None or known.map is not None:
                return False
            steps[name] = codec.raw(dict(self._scope.step(name)))
        for name in link.roots:
            if name not in self._roots:
                roots[name] = self._run.queued.inputs if name == INPUTS else codec.raw(self._scope.root(name))
        size = self._size + sum(map(len, (link.step.arguments, *steps.values(), *roots.values())))
        if size > FUSE_BYTES_MAX:
            return False
        self._size = size
        self._steps |= steps
        self._roots |= roots
        return True

    def written(self) -> Raw:
        """Give it as it travels."""
        return codec.raw({"roots": self._roots, "steps": self._steps}) if self._roots or self._steps else codec.NULL


def chained(run: Run, library: Library, instance: Instance, order: WorkOrder) -> WorkOrder:
    """Give an order with the steps that its worker may go on with; nothing begins in a run that rests."""
    step_id, index = instance
    if index is not None or run.resting:
        return order
    outside = Outside(run, scope_for(run, library, step_id))
    members, chain = {step_id}, list[FusedStep]()
    found = run.graph.follows.get(step_id)
    while found is not None and len(chain) < FUSE_STEPS_MAX - 1 and may_follow(run, found, members):
        link = _link(run, found)
        try:
            if not outside.bring(link, members):
                break
        except (StepError, ValidationError, KeyError, MissingError):
            break  # the planner meets it too when it comes to the step, and says so
        chain.append(_named(run, link.step))
        members.add(found)
        found = run.graph.follows.get(found)
    if not chain:
        return order
    return msgspec.structs.replace(order, chain=tuple(chain), scope=outside.written())


def may_follow(run: Run, step_id: str, members: set[str]) -> bool:
    """Tell whether nothing but the chain itself stands before a step: needs, a branch not taken, a rate limit."""
    known = run.data.steps.get(step_id)
    if (known is not None and known.status != StepStatus.PENDING) or quota_of(run, step_id) is not None:
        return False
    left = run.data.left.get(step_id)
    return left == 1 or left == sum(map(members.__contains__, run.graph.index[step_id].needs))


def _named(run: Run, step: FusedStep) -> FusedStep:
    """Give what every run's chain says of a step as this run's says it."""
    own = (step.step, None)
    return msgspec.structs.replace(
        step, attempt_id=run.attempt_id(own, 1), idempotency_key=f"{run.data.id}:{run.label(own)}"
    )


def _link(run: Run, step_id: str) -> Link:
    known: Link | None = run.graph.links.get(step_id)
    if known is None:
        known = run.graph.links[step_id] = _made(run, step_id)
    return known


def _made(run: Run, step_id: str) -> Link:
    step, pin = run.graph.index[step_id], run.graph.pins[step_id]
    assert isinstance(step.body, CallStep), "a chain is made of calls"
    references = run.graph.template(step_id, "arguments", step.body.arguments).references
    fixed = FusedStep(
        step=step_id,
        attempt_id="",
        kind=step.kind,
        tool=tool_name(step),
        arguments=codec.raw(step.body.arguments),
        manifest_digest=pin.digest,
        effect=pin.effect,
        idempotency_key="",
        timeout_s=step.timeout_s,
    )
    return Link(
        fixed,
        tuple(sorted(name for root, name in references if root == STEPS and name is not None)),
        tuple(sorted(root for root, _ in references if root != STEPS)),
    )


def standing(run: Run, command: ReportAttempt, library: Library, trial: Try | None) -> Standing:
    """Say where the result of a chained attempt stands; raises MissingError while a body must be fetched."""
    if run.graph.follows.get(command.after) != command.step or command.index is not None:
        return Standing.REFUSED
    if run.final:
        return Standing.USUAL
    instance = (command.step, None)
    if trial is not None:
        if trial.attempt != command.attempt or trial.idle or _same_arguments(run, command, library):
            return Standing.USUAL
        return Standing.OTHER
    if run.over(command.step) or command.attempt_id != run.attempt_id(instance, 1):
        return Standing.USUAL
    if command.status == AttemptStatus.CANCELLED or not run.over(command.after):
        return Standing.EARLY
    if run.halted or run.data.paused is None or command.step not in run.data.ready:
        return Standing.USUAL
    return Standing.PAUSED if _same_arguments(run, command, library) else Standing.OTHER


def _same_arguments(run: Run, command: ReportAttempt, library: Library) -> bool:
    try:
        return digest_for(run, library, (command.step, None)) == command.arguments_digest
    except (StepError, ValidationError):
        return False


def carry(run: Run, command: ReportAttempt) -> None:
    """Note the attempt that a worker has gone on with, if it is the one that is to be performed next."""
    if not command.goes_on:
        return
    following = run.graph.follows.get(command.step)
    if following is None or (trial := run.trial((following, None))) is None or trial.idle:
        return  # what a pause keeps from beginning is nobody's yet
    if command.goes_on == run.attempt_id((following, None), trial.attempt):
        run.carried[command.goes_on] = command.worker


def unchained(run: Run, event: RunEvent) -> Iterator[Unchain | Stop]:
    """Let nothing begin that a chain still holds: at a pause, and where a paused run, which knows of none, ends."""
    if isinstance(event, RunPaused):
        for step_id, index in run.under_way():
            if index is None and step_id in run.graph.follows:
                trial = run.trial((step_id, None))
                if trial is not None and not trial.idle:
                    attempt_id = run.attempt_id((step_id, None), trial.attempt)
                    end = EndChain(attempt_id=attempt_id, reason=f"run {run.data.id} was paused")
                    yield Unchain(end, run.graph.pins[step_id].pool)
    elif isinstance(event, CancelRequested | RunCancelled | RunFailed) and run.data.paused is not None:
        for before, step_id in run.graph.follows.items():
            if run.status_of(before) == StepStatus.SUCCEEDED and run.peek(step_id).attempt_id is None:
                interrupt = Interrupt(
                    attempt_id=run.attempt_id((step_id, None), 1), reason=f"run {run.data.id} was stopped"
                )
                yield Stop(interrupt, run.graph.pins[step_id].pool)
