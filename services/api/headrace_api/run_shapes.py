"""What callers receive about a run's attempts, effects and lineage, and what all shapes are made of."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from headrace.vocabulary import AttemptStatus, RunStatus, WaitingFor


class Shape(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(extra="forbid")


class StepProblem(Shape):
    """Why a run or step failed."""

    type: str
    message: str
    details: dict[str, Any] = {}
    plugin: str | None = None


class Person(Shape):
    """Who asked for something: a token, a trigger, or headrace itself."""

    id: str | None
    name: str | None


class Tried(Shape):
    """A failed attempt; `next_at` is when the next one was to begin. Of a step the last ones are shown."""

    number: int
    status: AttemptStatus
    index: int | None
    iteration: int
    attempt_id: str | None
    worker: str | None
    error: StepProblem
    started_at: str | None
    finished_at: str | None
    next_at: str | None


class Lineage(Shape):
    """A run that did another one again: all of it, or from a step on."""

    id: str
    status: RunStatus
    attempt: int
    rerun_from: str | None
    created_at: str | None


class Relative(Shape):
    """A run's parent, or one of its children: the step instance that the child performs, and how that run stands."""

    id: str
    status: RunStatus | None
    waiting_for: WaitingFor | None
    name: str | None
    step: str
    instance: str
    attempt: int
    depth: int
    created_at: str | None


class Settled(Shape):
    """What was said of an act whose outcome was unknown; by nobody: by its worker's own late word."""

    answer: str
    by: Person | None
    reason: str
    at: str | None


class Effect(Shape):
    """An attempt that was let act on the world, and what became of it."""

    step: str
    instance: str
    tool: str
    effect: str
    idempotency_key: str
    attempt: int
    attempt_id: str
    worker: str
    claimed_at: str | None
    ended_at: str | None
    arguments_digest: str
    outcome: Literal["under_way", "done", "failed", "unknown", "not_happened", "given_up"]
    settled: Settled | None
    error: dict[str, str] | None
    late: dict[str, Any] | None
