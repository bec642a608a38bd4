"""What the api answers, as the client gives it: the fields that callers work with, typed."""

from typing import Any

import msgspec

from headrace.vocabulary import RUN_FINAL, RunStatus


class Problem(msgspec.Struct, frozen=True):
    """Why a run or step failed."""

    type: str
    message: str
    details: dict[str, Any] = {}
    plugin: str | None = None


class Person(msgspec.Struct, frozen=True):
    """Who asked for something."""

    id: str | None = None
    name: str | None = None


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A failed attempt of a step; `next_at` is when the next one was to begin."""

    number: int
    status: str
    error: Problem
    index: int | None = None
    attempt_id: str | None = None
    worker: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    next_at: str | None = None


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """A run that did another one again: all of it, or from a step on."""

    id: str
    status: RunStatus
    attempt: int = 1
    rerun_from: str | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a run; `output_preview` stands in for an output too large to show."""

    step: str
    kind: str
    status: str
    attempt: int = 0
    attempt_id: str | None = None
    worker: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    items_total: int | None = None
    items_done: int | None = None
    items_failed: int | None = None
    error: Problem | None = None
    output: Any = None
    output_preview: dict[str, Any] | None = None
    reason: str | None = None
    approval_id: str | None = None
    attempts: list[Tried] = []
    reused_from: str | None = None


class Relative(msgspec.Struct, frozen=True, kw_only=True):
    """A run's parent, or one of its children: the step instance that the child performs, and how that run stands."""

    id: str
    step: str
    instance: str
    attempt: int
    depth: int
    status: str | None = None
    waiting_for: str | None = None
    name: str | None = None
    created_at: str | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run."""

    id: str
    status: RunStatus
    kind: str
    name: str
    plan_digest: str
    waiting_for: str | None = None
    workflow: str | None = None
    workflow_version: int | None = None
    error: Problem | None = None
    attempt: int = 1
    retry_of: str | None = None
    rerun_from: str | None = None
    retried_by: list[Lineage] = []
    parent: Relative | None = None
    children: list[Relative] = []
    children_total: int = 0
    requester: Person = Person()
    subject: str | None = None
    stage: str | None = None
    labels: dict[str, str] = {}
    cancel_requested: bool = False
    workers_active: bool = True
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    steps_total: int = 0
    steps_done: int = 0
    inputs: Any = None
    trigger: Any = None
    outputs: Any = None
    waiting: list[dict[str, Any]] = []
    steps: list[Step] = []

    @property
    def over(self) -> bool:
        """Tell whether the run has its final status."""
        return self.status in RUN_FINAL


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that is asked for: `digest` is that of `shown`."""

    id: str
    status: str
    digest: str
    shown: Any
    subject: str
    run_id: str | None = None
    step: str | None = None
    plan_digest: str | None = None
    roles: list[str] = []
    quorum: int = 1
    decisions: list[dict[str, Any]] = []
    requester: Person = Person()
    reason: str | None = None
    created_at: str | None = None
    expires_at: str | None = None
    closed_at: str | None = None


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who the token stands for."""

    id: str
    name: str
    roles: list[str]
    workspace: str


class Page(msgspec.Struct, frozen=True):
    """A page of a list."""

    items: list[dict[str, Any]]
    next_cursor: str | None = None


def read[Kind](kind: type[Kind], body: Any) -> Kind:
    """Read an answer; fields that this client does not know are left out, so older clients read newer answers."""
    return msgspec.convert(body, kind)
