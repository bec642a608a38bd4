"""The canonical form of documents, as pydantic models: strict, unknown fields refused (pure).

What people write is brought into this form first (`canonical.py`), so that aliases and short forms are known there and
nowhere else. What was not given stays unset and is not written out again.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from headrace.specs import names
from headrace.specs.durations import Duration
from headrace.specs.fields import DocumentName, Precondition, SignalName, StepId, TriggerName
from headrace.vocabulary import (
    CONCURRENCY_LIMIT_MAX,
    LOOP_CAP,
    LOOP_CAP_MAX,
    MAP_IN_FLIGHT_MAX,
    PRIORITY_MAX,
    RETRY_ATTEMPTS_DEFAULT,
    RETRY_ATTEMPTS_MAX,
)

GUARD: Final = "guard"
CHOICE: Final = "choice"
UNION_TAGS: Final = frozenset({GUARD, CHOICE})


class Part(BaseModel):
    """A piece of a document."""

    model_config = ConfigDict(extra="forbid", strict=True, serialize_by_alias=True)


class Metadata(Part):
    """Who the document is: its name is unique in a workspace for its kind."""

    name: DocumentName
    labels: dict[str, str] = {}
    description: str = ""


class Backoff(Part):
    """How far apart tries are: delay n is initial x factor^(n-1), at most max, give or take the share `jitter`."""

    initial: Duration = 1.0
    factor: float = Field(default=2.0, ge=1, le=100)
    max: Duration = 60.0
    jitter: float = Field(default=0.1, ge=0, le=1)


class Retry(Part):
    """How often a step is tried; `retry_on` restricts it to these error types."""

    max_attempts: int = Field(default=RETRY_ATTEMPTS_DEFAULT, ge=1, le=RETRY_ATTEMPTS_MAX)
    backoff: Backoff | None = None
    strategy: Literal["simple"] = "simple"
    retry_on: list[str] = []


class Artifact(Part):
    """An output to keep; `value` is a template over the step's own `output` too."""

    type: Literal["file", "url", "pr", "ticket", "metric", "diagnostics", "stdout", "stderr", "rows"]
    label: str = Field(min_length=1)
    value: Any = None


class Http(Part):
    """A request; everything but the method may hold templates."""

    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: str = Field(min_length=1)
    headers: dict[str, Any] = {}
    query: dict[str, Any] = {}
    body: Any = None
    follow_redirects: bool = False


class Call(Part):
    """A query or action over a connection."""

    name: str = Field(min_length=1)
    operation: str = Field(min_length=1)
    with_: dict[str, Any] = Field(default={}, alias="with")
    connection: str | None = None


class Choice(Part):
    """A bare CEL expression and the steps of its two branches."""

    expression: str = Field(min_length=1)
    then: list[str] = []
    else_: list[str] = Field(default=[], alias="else")


class Gate(Part):
    """A machine check: a type of VOCABULARY, or one that a plug-in brings, and its config."""

    model_config = ConfigDict(
        json_schema_extra={
            "additionalProperties": True,
            "description": "A machine check: its type, and its config in `config` or beside it.",
        }
    )

    type: str = Field(min_length=1)
    config: dict[str, Any] = {}
    required: bool = True
    failure_message: str = ""


class Approval(Part):
    """A human decision."""

    roles: list[Literal["viewer", "operator", "approver", "admin"]] = Field(default=["approver"], min_length=1)
    quorum: int = Field(default=1, ge=1, le=names.QUORUM_MAX)
    expires: Duration | None = None
    prompt: str = ""


class Wait(Part):
    """A timer, a signal by name, or an event: a trigger's, or another run's (`run`; without `event`, its end).

    `when` is a bare CEL expression over `event`; `timeout` bounds a wait for a signal or an event.
    """

    timer: Duration | None = None
    signal: SignalName | None = None
    event: TriggerName | None = None
    run: str | None = Field(default=None, min_length=1)
    when: str | None = Field(default=None, min_length=1)
    timeout: Duration | None = None


class Loop(Part):
    """Steps of the document that are performed again and again while a bare CEL expression holds, so often at most."""

    while_: str = Field(alias="while", min_length=1)
    steps: list[str] = Field(min_length=1)
    max_iterations: int = Field(default=LOOP_CAP, ge=1, le=LOOP_CAP_MAX)


class SubWorkflow(Part):
    """A workflow that is run as a child, with its inputs."""

    workflow: DocumentName
    with_: dict[str, Any] = Field(default={}, alias="with")


class Compensation(Part):
    """A call that undoes a step when the run fails or is cancelled; its templates also see the step's own `output`."""

    tool: str | None = Field(default=None, min_length=1)
    http: Http | None = None
    integration: Call | None = None
    with_: dict[str, Any] = Field(default={}, alias="with")
    timeout: Duration | None = None
    retry: Retry | None = None

    @property
    def kind(self) -> str:
        """Give the word of VOCABULARY for what it does."""
        return next((kind for kind in ("tool", "http", "integration") if getattr(self, kind) is not None), "tool")


def _condition_form(value: Any) -> str:
    return CHOICE if isinstance(value, dict | Choice) else GUARD


class Step(Part):
    """A step: exactly one of the kinds' keys, and what surrounds it. A text in `condition` is a guard for any kind."""

    id: StepId
    name: str = ""
    depends_on: list[str] = []
    condition: Annotated[
        Annotated[str, Tag(GUARD)] | Annotated[Choice, Tag(CHOICE)], Discriminator(_condition_form)
    ] = ""
    tool: str | None = Field(default=None, min_length=1)
    http: Http | None = None
    integration: Call | None = None
    transform: Any = None
    map: Any = None
    gate: Gate | None = None
    approval: Approval | None = None
    wait: Wait | None = None
    loop: Loop | None = None
    sub_workflow: SubWorkflow | None = None
    with_: dict[str, Any] = Field(default={}, alias="with")
    outputs: dict[str, Any] = {}
    artifacts: list[Artifact] = []
    timeout: Duration | None = None
    step_timeout: Duration | None = None
    queue_timeout: Duration | None = None
    retry: Retry | None = None
    on_error: Literal["fail", "continue"] = "fail"
    on_item_error: Literal["fail_fast", "collect"] = "fail_fast"
    concurrency: int | None = Field(default=None, ge=1, le=MAP_IN_FLIGHT_MAX)
    precondition: Precondition = None
    requires_confirmation: bool = False
    compensate: Compensation | None = None

    @property
    def kind(self) -> str:
        """Give the word of VOCABULARY for what the step does."""
        for kind in names.STEP_KINDS:
            if kind in self.model_fields_set and kind not in {"map", "condition"}:
                return kind
        return "condition"

    @property
    def guard(self) -> str | None:
        """Give the bare CEL text that decides whether the step runs."""
        return self.condition if isinstance(self.condition, str) and self.condition else None

    @property
    def choice(self) -> Choice | None:
        """Give what a condition step chooses between."""
        return self.condition if isinstance(self.condition, Choice) else None

    @property
    def is_map(self) -> bool:
        """Tell whether the step is performed once per item of a list."""
        return "map" in self.model_fields_set


class InputField(Part):
    """An input of a workflow: required unless it has a default."""

    type: Literal["any", "string", "integer", "number", "boolean", "array", "object"] = "any"
    default: Any = None
    required: bool | None = None
    description: str = ""


class Trigger(Part):
    """What starts a run: an event published as `headrace.trigger.<event>` for which `when` (CEL) is true.

    `priority` stands for the workflow's own in the runs that it starts.
    """

    type: Literal["event"]
    event: TriggerName
    when: str | None = Field(default=None, min_length=1)
    inputs: dict[str, Any] = {}
    priority: int | None = Field(default=None, ge=-PRIORITY_MAX, le=PRIORITY_MAX)


class Concurrency(Part):
    """How many runs with the same key may be under way at once; `key` is a template over inputs, trigger and run.

    Without a key it counts the runs of this workflow; keys are shared by all workflows of a workspace.
    """

    key: str | None = Field(default=None, min_length=1)
    limit: int = Field(default=1, ge=1, le=CONCURRENCY_LIMIT_MAX)
    on_conflict: Literal["queue", "reject", "replace"] = "queue"


class WorkflowSpec(Part):
    """What a workflow does."""

    inputs: dict[str, InputField] = {}
    variables: dict[str, Any] = {}
    steps: list[Step]
    outputs: Any = None
    triggers: list[Trigger] = []
    automation: Literal["fully_auto", "human_approval", "manual"] = "fully_auto"
    on_failure: Literal["stay"] = "stay"
    timeout: Duration | None = None
    concurrency: Concurrency | None = None
    priority: int = Field(default=0, ge=-PRIORITY_MAX, le=PRIORITY_MAX)
    fuse: bool = True


class ToolPlanSpec(Part):
    """A chain of tools: each needs the one before it, unless its `depends_on` says else."""

    inputs: dict[str, InputField] = {}
    variables: dict[str, Any] = {}
    steps: list[Step]
    outputs: Any = None
    timeout: Duration | None = None
    fuse: bool = True


class SourceCall(Part):
    """Where rows come from: a query of an integration."""

    integration: str = Field(min_length=1)
    operation: str = Field(min_length=1)
    with_: dict[str, Any] = Field(default={}, alias="with")
    connection: str | None = None


class Metric(Part):
    """One number over the rows of a source."""

    id: StepId
    source: SourceCall
    aggregate: Literal["count", "sum", "avg", "min", "max"] = "count"
    field: str | None = Field(default=None, min_length=1)


class View(Part):
    """What a dashboard shows: a number or chart of a metric, or a table of a source's rows.

    `sort` is a field of the rows, descending when it begins with `-`.
    """

    id: StepId
    type: Literal["metric", "table", "chart"]
    title: str = ""
    metric: str | None = None
    source: SourceCall | None = None
    columns: list[str] = []
    sort: str | None = Field(default=None, min_length=1)
    limit: int | None = Field(default=None, ge=1, le=10_000)


class DashboardSpec(Part):
    """Read-only queries and how they are shown."""

    inputs: dict[str, InputField] = {}
    variables: dict[str, Any] = {}
    metrics: list[Metric] = []
    views: list[View] = Field(min_length=1)
    timeout: Duration | None = None


Spec = WorkflowSpec | ToolPlanSpec | DashboardSpec


class WorkflowDocument(Part):
    """A graph of steps."""

    apiVersion: Literal["headrace/v1"]  # noqa: N815  (the document's own spelling)
    kind: Literal["Workflow"]
    metadata: Metadata
    spec: WorkflowSpec


class ToolPlanDocument(Part):
    """A chain of tools that runs only with an approved authorisation."""

    apiVersion: Literal["headrace/v1"]  # noqa: N815  (the document's own spelling)
    kind: Literal["ToolPlan"]
    metadata: Metadata
    spec: ToolPlanSpec


class DashboardDocument(Part):
    """A dashboard."""

    apiVersion: Literal["headrace/v1"]  # noqa: N815  (the document's own spelling)
    kind: Literal["Dashboard"]
    metadata: Metadata
    spec: DashboardSpec


DOCUMENTS: Final[dict[str, type[WorkflowDocument] | type[ToolPlanDocument] | type[DashboardDocument]]] = {
    names.WORKFLOW: WorkflowDocument,
    names.TOOL_PLAN: ToolPlanDocument,
    names.DASHBOARD: DashboardDocument,
}
SPECS: Final[dict[str, type[WorkflowSpec] | type[ToolPlanSpec] | type[DashboardSpec]]] = {
    names.WORKFLOW: WorkflowSpec,
    names.TOOL_PLAN: ToolPlanSpec,
    names.DASHBOARD: DashboardSpec,
}
