"""The plan: the canonical, immutable, hashed graph of steps (pure).

A plan is data. Its canonical form is RFC 8785 over what `msgspec` gives for it without defaults; its digest is the
sha256 of those bytes; the same spec and catalogue give the same digest on every machine. Templates stay templates in a
plan: a run pins the digests of plan and inputs, so an approval of a run covers both.
"""

from functools import lru_cache
from typing import Any, Final

import msgspec

from headrace import codec
from headrace.events.base import RateLimit
from headrace.vocabulary import LOOP_CAP, RUN_TIMEOUT_S, STEP_TIMEOUT_S

PLAN_API = "headrace.plan/v1"
MANIFESTS_KEPT: Final = 1_024
"""Manifests whose digests are remembered: every worker announces its own again and again."""
COMPENSATION_SUFFIX = ".compensate"
"""What follows a step's id in the id of what undoes it."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of a plan."""


class InputField(Part, frozen=True, kw_only=True):
    """An input of the plan: its JSON type, its default, whether it must be given."""

    type: str = "any"
    default: Any = None
    required: bool = True
    description: str = ""


class ToolPin(Part, frozen=True, kw_only=True):
    """The tool a plan was compiled against; a worker whose manifest has another digest refuses."""

    version: str
    digest: str
    effect: str
    access: str
    pool: str
    idempotent: bool
    kind: str = "tool"
    requires_connection: str | None = None
    rate_limit: RateLimit | None = None


class Retry(Part, frozen=True, kw_only=True):
    """How often and how long apart a step is tried: delay n is initial * factor^(n-1), at most max, with jitter."""

    max_attempts: int = 1
    initial_s: float = 1.0
    factor: float = 2.0
    max_s: float = 60.0
    jitter: float = 0.1
    on: tuple[str, ...] = ()


class ArtifactSpec(Part, frozen=True, kw_only=True):
    """An output to keep; `value` is a template over the step's own `output` too."""

    type: str
    label: str
    value: Any = None


class CallStep(Part, frozen=True, kw_only=True, tag="call"):
    """Performed by a worker: `tool` names a key of the plan's `tools`; `arguments` is a template."""

    tool: str
    arguments: dict[str, Any] = {}
    connection: str | None = None


class TransformStep(Part, frozen=True, kw_only=True, tag="transform"):
    """Computed in the planner: the output is the template's value."""

    value: Any = None


class ConditionStep(Part, frozen=True, kw_only=True, tag="condition"):
    """Chooses a branch: the steps named in the other one are skipped."""

    expression: str
    then: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()


class GateStep(Part, frozen=True, kw_only=True, tag="gate"):
    """A machine check in the gatekeeper over recorded artifacts and events."""

    gate: str
    config: dict[str, Any] = {}
    required: bool = True
    failure_message: str = ""


class ApprovalStep(Part, frozen=True, kw_only=True, tag="approval"):
    """A human decision; `prompt` is a template."""

    roles: tuple[str, ...] = ("approver",)
    quorum: int = 1
    expires_s: float | None = None
    prompt: Any = ""


class WaitStep(Part, frozen=True, kw_only=True, tag="wait"):
    """A timer (`seconds`), a signal by name, or an event: a trigger's, or (`of_run`, a template) another run's.

    `when` is a bare CEL expression over `event` beside the usual roots: only an event for which it is true ends the
    wait. Without `expires_s` it waits for ever.
    """

    seconds: float | None = None
    signal: str | None = None
    event: str | None = None
    of_run: Any = None
    when: str | None = None
    expires_s: float | None = None


class LoopStep(Part, frozen=True, kw_only=True, tag="loop"):
    """Performs its body, the steps whose `parent` it is, again and again while `condition` holds, `cap` times at most.

    The condition sees `iteration`: how many rounds are over, 0 before the first.
    """

    condition: str
    body: tuple[str, ...]
    cap: int = LOOP_CAP


class SubWorkflowStep(Part, frozen=True, kw_only=True, tag="sub_workflow"):
    """Performed by a child run of its own: `workflow` names a key of the plan's `workflows`; `inputs` is a template."""

    workflow: str
    inputs: dict[str, Any] = {}


StepBody = CallStep | TransformStep | ConditionStep | GateStep | ApprovalStep | WaitStep | LoopStep | SubWorkflowStep


class WorkflowPin(Part, frozen=True, kw_only=True):
    """The plan that a sub-workflow step runs, by digest, so that an approval of this plan covers it.

    `depth` counts the levels below: 1 for a workflow without sub-workflows; `below` names those workflows. `gated`: it uses gated tools that no
    approval of its own covers. `integrations` lists those that it, or anything below it, needs connected, as
    `name` or `name/connection`.
    """

    version: int
    digest: str
    depth: int = 1
    gated: bool = False
    integrations: tuple[str, ...] = ()
    below: tuple[str, ...] = ()


class Concurrency(Part, frozen=True, kw_only=True):
    """How many runs with the same key may be under way; `key` is a template over inputs, trigger and run."""

    key: Any
    limit: int = 1
    on_conflict: str = "queue"


class PlanStep(Part, frozen=True, kw_only=True):
    """A node of the plan. `kind` is the word of the spec (tool, http, integration, …); `body` what it does.

    `needs` are the steps that must be over first, named or implied by references. `items` makes it a map: a template
    that gives the list, once per item of which the body is performed, `concurrency` at once; with `on_item_error`
    `collect` the failed items are collected and the step succeeds. `confirm` asks a person before it acts.

    `timeout_s` bounds one attempt, `step_timeout_s` all attempts together with the delays between them, and
    `queue_timeout_s` how long an attempt may wait for a worker. `parent` is the loop whose body the step belongs to:
    then its `needs` name only steps of the same body. `compensates` is the step that it undoes.
    """

    id: str
    kind: str
    body: StepBody
    name: str = ""
    needs: tuple[str, ...] = ()
    when: str | None = None
    items: Any = None
    timeout_s: float = STEP_TIMEOUT_S
    retry: Retry = Retry()
    on_error: str = "fail"
    artifacts: tuple[ArtifactSpec, ...] = ()
    precondition: Any = None
    confirm: bool = False
    covered_by: tuple[str, ...] = ()
    outputs: dict[str, Any] = {}
    parent: str = ""
    step_timeout_s: float | None = None
    queue_timeout_s: float | None = None
    concurrency: int | None = None
    on_item_error: str = "fail_fast"
    compensates: str = ""

    @property
    def is_map(self) -> bool:
        """Tell whether the step is performed once per item of a list."""
        return self.items is not None

    @property
    def shown_kind(self) -> str:
        """Give the kind that people are shown: a map is one, whatever it does for each item."""
        return "map" if self.is_map else self.kind


class Plan(Part, frozen=True, kw_only=True):
    """What exactly will run. `steps` stand in an order in which each comes after what it needs.

    `authorization` says what must be approved before gated tools may run: `none` (there are none, or approval steps
    of the plan itself stand before every one: see `covered_by`), `run` (once per run, unless the digest is authorised
    for all) or `plan` (the digest must be authorised before a run may exist). `compensations` undo steps when the run
    fails or is cancelled: each has the id `<step>.compensate` and names in `compensates` what it undoes. `fuse` is the
    author's word that steps may be dispatched together; which ones follows from the plan (see `fusion`) and is no part
    of it, so that a release which fuses more voids no approval.
    """

    name: str
    kind: str
    steps: tuple[PlanStep, ...]
    tools: dict[str, ToolPin] = {}
    api: str = PLAN_API
    inputs: dict[str, InputField] = {}
    variables: dict[str, Any] = {}
    outputs: Any = None
    automation: str = "fully_auto"
    on_failure: str = "stay"
    timeout_s: float = RUN_TIMEOUT_S
    authorization: str = "none"
    views: tuple[dict[str, Any], ...] = ()
    workflows: dict[str, WorkflowPin] = {}
    compensations: tuple[PlanStep, ...] = ()
    concurrency: Concurrency | None = None
    priority: int = 0
    fuse: bool = True

    def step(self, step_id: str) -> PlanStep:
        """Give a step by its id; raises KeyError."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)

    @property
    def gated(self) -> bool:
        """Tell whether any tool needs an approval."""
        return any(pin.access == "gated" for pin in self.tools.values())


_decoder = msgspec.json.Decoder(Plan)


def canonical(plan: Plan) -> bytes:
    """Give the plan's canonical bytes: what is hashed, stored and shown."""
    return codec.canonical(msgspec.to_builtins(plan))


def digest(plan: Plan) -> str:
    """Give the plan's digest, `sha256:` and 64 hex characters."""
    return codec.sha256(canonical(plan))


def parse(data: bytes) -> Plan:
    """Read a plan's bytes."""
    return _decoder.decode(data)


def manifest_digest(manifest: msgspec.Struct) -> str:
    """Give the digest of a tool's manifest, which plans pin."""
    return _digest_of(codec.encode(manifest))


@lru_cache(maxsize=MANIFESTS_KEPT)
def _digest_of(manifest: bytes) -> str:
    return codec.digest(codec.loads(manifest))
