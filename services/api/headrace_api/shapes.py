"""What callers receive, as models: the OpenAPI document is made of them, and tests hold the views to them."""

from typing import Any, Literal

from pydantic import Field

from headrace.vocabulary import ApprovalStatus, Role, RunStatus, StepStatus, WaitingFor
from headrace_api import run_shapes
from headrace_api.run_shapes import Lineage, Person, Relative, StepProblem, Tried

Shape = run_shapes.Shape
"""What every shape is."""


class Problem(Shape):
    """An error; `type` is one of VOCABULARY "Error envelope"."""

    type: str
    message: str
    details: dict[str, Any] = {}
    plugin: str | None = None
    timestamp: str
    request_id: str


class ErrorEnvelope(Shape):
    """What every refusal looks like."""

    error: Problem


class Preview(Shape):
    """The beginning of a body too large to show; the whole is at `download`."""

    preview: Literal[True] = True
    text: str
    digest: str | None
    size_bytes: int | None
    download: str | None


class Step(Shape):
    """A step of a run."""

    step: str
    kind: str
    status: StepStatus
    attempt: int
    attempt_id: str | None
    worker: str | None
    started_at: str | None
    finished_at: str | None
    items_total: int | None
    items_done: int | None
    items_failed: int | None
    error: StepProblem | None
    output: Any = None
    output_preview: Preview | None = None
    evidence: dict[str, Any] | None = None
    arguments_digest: str | None = None
    approval_id: str | None = None
    due_at: str | None = None
    reason: str | None = None
    failed_items: dict[str, str] = {}
    attempts: list[Tried] = []
    reused_from: str | None = None


class Run(Shape):
    """A run."""

    id: str = Field(pattern="^run_")
    status: RunStatus
    waiting_for: WaitingFor | None
    kind: str
    name: str
    workflow: str | None
    workflow_version: int | None
    plan_digest: str
    inputs_digest: str
    error: StepProblem | None
    attempt: int
    retry_of: str | None
    rerun_from: str | None
    requester: Person
    subject: str | None
    stage: str | None
    labels: dict[str, str]
    cancel_requested: bool
    workers_active: bool
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    steps_total: int
    steps_done: int


class WholeRun(Run):
    """A run with its inputs, outputs and steps."""

    inputs: Any = None
    trigger: Any = None
    outputs: Any = None
    waiting: list[dict[str, Any]] = []
    connections: list[str] = []
    retried_by: list[Lineage] = []
    parent: Relative | None = None
    children: list[Relative] = []
    children_total: int = 0
    steps: list[Step] = []


class Result(Shape):
    """The result of a finished run; `views` of a dashboard, one per view."""

    id: str
    status: RunStatus
    error: StepProblem | None
    outputs: Any = None
    started_at: str | None
    finished_at: str | None
    steps: list[dict[str, Any]]
    views: dict[str, Any] | None = None


class RunEvent(Shape):
    """A fact of the log."""

    id: str
    type: str
    at: str
    version: int
    position: int
    data: Any
    meta: Any = None


class RunLine(Shape):
    """A line that a run printed."""

    cursor: str
    at: str
    level: str
    text: str
    step: str | None
    index: int | None = None
    attempt_id: str | None = None
    sequence: int | None = None
    stream: str


class Reason(Shape):
    """Why a run is not moving, and what would move it."""

    step: str | None
    waiting_for: str | None
    message: str
    remedy: str
    until: str | None = None


class Explained(Shape):
    """Why a run stands where it stands."""

    id: str
    status: RunStatus
    reasons: list[Reason]


class Artifact(Shape):
    """A kept output."""

    id: str
    run_id: str
    step: str
    item: int | None
    attempt_id: str | None
    type: str
    label: str
    value: Any = None
    uri: str
    digest: str | None
    download: str
    size_bytes: int | None
    media_type: str | None
    subject: str | None
    created_at: str | None


class Approval(Shape):
    """A human decision, asked for or made: `digest` is that of `shown`."""

    id: str
    status: ApprovalStatus
    run_id: str | None
    subject: str
    step: str | None
    plan_digest: str | None
    digest: str
    shown: Any
    roles: list[str]
    quorum: int
    decisions: list[dict[str, Any]]
    requester: Person
    reason: str | None
    created_at: str | None
    expires_at: str | None
    closed_at: str | None


class Authorization(Shape):
    """A plan's standing authorisation."""

    status: str
    approval_id: str | None
    decided_by: list[Any]
    reason: str | None


class Plan(Shape):
    """A recorded plan."""

    digest: str
    name: str
    kind: str
    gated: bool
    authorization: Authorization
    created_at: str | None
    created_by: str | None


class WholePlan(Plan):
    """A recorded plan with its body, and the chains of its steps that are dispatched together."""

    plan: dict[str, Any]
    fused: list[list[str]]


class RunPlan(Shape):
    """The plan that a run pins, and the chains of its steps that are dispatched together."""

    digest: str
    plan: dict[str, Any]
    fused: list[list[str]]


class Workflow(Shape):
    """A workflow's newest version."""

    id: str
    name: str
    kind: str
    version: int
    plan_digest: str | None
    valid: bool
    problems: list[Any]
    triggers: list[Any]
    labels: dict[str, Any]
    updated_at: str | None
    updated_by: str | None


class WholeWorkflow(Workflow):
    """A workflow with its document."""

    spec: Any = None


class WorkflowVersion(Shape):
    """A version of a workflow."""

    version: int
    plan_digest: str
    applied_at: str
    applied_by: Person
    spec: Any = None


class Tool(Shape):
    """A tool as its workers announced it, and how it has done lately."""

    name: str
    version: str
    description: str
    digest: str
    kind: str
    effect: str
    access: str
    pool: str
    idempotent: bool
    requires_connection: str | None
    rate_limit: str | None
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    announced_at: str | None
    state: str
    reason: str | None
    success_count: int
    error_count: int
    last_execution_time_ms: float | None
    avg_execution_time_ms: float | None
    last_used: str | None
    workers: list[str]


class Token(Shape):
    """An access token, without its secret."""

    id: str
    name: str
    roles: list[Role]
    created_at: str | None
    created_by: str | None
    revoked_at: str | None


class NewToken(Shape):
    """A token just made: `token` is shown this once."""

    id: str
    name: str
    roles: list[Role]
    token: str


class Connection(Shape):
    """A connection; of its secrets only their names."""

    name: str
    integration: str
    settings: dict[str, Any]
    secrets: list[str]
    status: str
    updated_at: str | None
    updated_by: str | None


class Published(Shape):
    """A trigger event that the bus has on disk."""

    name: str
    sequence: int
    message_id: str


class Blob(Shape):
    """A body that is kept."""

    digest: str
    size_bytes: int


class Me(Shape):
    """Who the token stands for."""

    id: str
    name: str
    roles: list[str]
    workspace: str


class Page[Item](Shape):
    """A page of a list: go on with `?cursor=<next_cursor>`."""

    items: list[Item]
    next_cursor: str | None = None
