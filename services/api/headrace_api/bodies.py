"""What callers send, as models: unknown fields are refused with the nearest known name, older spellings are read."""

import re
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    model_validator,
)
from pydantic_core import PydanticCustomError

from headrace import codec, received
from headrace.errors import KEY_HEADER, HeadraceError, ValidationError
from headrace.expressions.near import meant
from headrace.vocabulary import IDEMPOTENCY_KEY_CHARS_MAX, PRIORITY_MAX, Role

Json = JsonValue
CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
TEXT_CHARS_MAX: Final = 4_000
NAME_CHARS_MAX: Final = 200
LABELS_MAX: Final = 64
INDEX_MAX: Final = 999_999_999
"""The greatest place of a map's item that can be named."""


def _number(given: object) -> object:
    """Refuse what would be read as a number and is none: "5", true."""
    if isinstance(given, str | bool):
        kind, message = "int_type", "must be a whole number"
        raise PydanticCustomError(kind, message)
    return given


def _keepable(given: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Refuse values that a message cannot carry as they are."""
    try:
        same = msgspec.json.encode(given) == codec.dumps(given)
    except (ValueError, RecursionError, HeadraceError):
        same = False
    if not same:
        message = "must hold finite numbers and Unicode text: NaN, infinity and half of a surrogate pair cannot be kept"
        raise ValueError(message)
    return given


Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARS_MAX)]
Text = Annotated[str, Field(max_length=TEXT_CHARS_MAX)]
"""A text with a limit is also held to be Unicode: half of a surrogate pair, which JSON can say, is none."""
Whole = Annotated[int, BeforeValidator(_number)]
Switch = StrictBool
Priority = Annotated[Whole, Field(ge=-PRIORITY_MAX, le=PRIORITY_MAX)]
Labels = Annotated[dict[Text, Text], Field(max_length=LABELS_MAX)]


class Body(BaseModel):
    """A request body. `OLDER` maps spellings that are read but never written to the field's name."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)
    OLDER: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, given: Any) -> Any:
        """Read older spellings; refuse what is unknown, and a field that is given twice."""
        if not isinstance(given, dict):
            return given
        known: dict[str, Any] = {}
        for name, value in given.items():
            field, told = cls.spelled(str(name), value)
            if field not in cls.model_fields:
                hint = meant(field, cls.model_fields) or f"; known are: {', '.join(cls.model_fields)}"
                message = f"unknown field {name!r}{hint}"
                raise ValueError(message)
            if field in known:
                message = f"{field!r} is given twice, once as {name!r}"
                raise ValueError(message)
            known[field] = told
        return known

    @classmethod
    def spelled(cls, name: str, value: Any) -> tuple[str, Any]:
        """Give the field and value that a spelling stands for."""
        if name in cls.model_fields:
            return name, value
        snake = CAMEL.sub("_", name).lower()
        return cls.OLDER.get(name) or cls.OLDER.get(snake) or snake, value


class RunBody(Body):
    """What to run: one of `workflow` (a name), `spec` (a document or its YAML text) and `plan_digest`."""

    OLDER: ClassVar[dict[str, str]] = {
        "card": "subject",
        "card_id": "subject",
        "project": "subject",
        "project_id": "subject",
        "workflow_id": "workflow",
        "workflow_name": "workflow",
        "recipe": "workflow",
        "plan_id": "plan_digest",
        "params": "inputs",
        "params_json": "inputs",
        "inputs_json": "inputs",
        "workspace_id": "workspace",
    }

    workflow: Name | None = None
    workflow_version: Annotated[Whole, Field(ge=1)] | None = None
    spec: dict[str, Json] | str | None = None
    plan_digest: Text | None = None
    inputs: dict[str, Json] = {}
    subject: Name | None = None
    stage: Name | None = None
    labels: Labels = {}
    priority: Priority | None = Field(None, description="Higher first; if not given, the plan's own.")
    triggered_by: Name | None = Field(None, description="Kept as the label `triggered_by`.")
    workspace: Text | None = Field(None, description="If given, it must be the token's own.")

    @classmethod
    def spelled(cls, name: str, value: Any) -> tuple[str, Any]:
        """Read `paramsJson` and its kin, which hold JSON as text."""
        field, told = super().spelled(name, value)
        if field == "inputs" and isinstance(told, str) and name != "inputs":
            try:
                return field, received.loads(told)
            except (HeadraceError, ValueError, RecursionError) as problem:
                message = f"{name}: {problem}"
                raise ValueError(message) from problem
        return field, told

    @property
    def newest(self) -> bool:
        """Tell whether the newest version of a workflow is meant, whichever that is."""
        return self.workflow is not None and self.workflow_version is None

    @model_validator(mode="after")
    def _one_source(self) -> "RunBody":
        given = [name for name in ("workflow", "spec", "plan_digest") if getattr(self, name) is not None]
        if len(given) != 1:
            told = f"not {' and '.join(given)} together" if given else "none is given"
            message = f"say what to run by exactly one of workflow, spec, plan_digest: {told}"
            raise ValueError(message)
        return self


ACTIONS: Final = (
    "cancel", "start", "pause", "resume", "settle", "signal", "retry", "rerun", "purge", "approve", "reject",
)  # fmt: skip


class ActionBody(Body):
    """What to do with a run; `reason` is shown with it, `digest` is that of the approval's `shown`.

    `settle` takes the `step` (`notify`, or `notify[3]` for an item), the `answer` happened, not_happened or give_up,
    and for happened the `output`. `signal` takes the `name` that a step waits for and its `data`; again with the same
    `signal_id` it changes nothing. `rerun` takes `from`, the step from which to perform anew, and `inputs` that change.
    """

    OLDER: ClassVar[dict[str, str]] = {"from": "from_step", "set": "inputs"}

    action: Annotated[Name, Field(json_schema_extra={"enum": [*ACTIONS]})]
    reason: Text = ""
    digest: Text | None = None
    from_step: Name | None = None
    inputs: dict[str, Json] = {}
    step: Name | None = None
    index: Annotated[Whole, Field(ge=0, le=INDEX_MAX)] | None = None
    answer: Name | None = None
    output: Json = None
    name: Name | None = None
    data: Json = None
    signal_id: Annotated[str, Field(min_length=1, max_length=IDEMPOTENCY_KEY_CHARS_MAX)] | None = None


class SpecBody(Body):
    """A document to compile: as an object, or as YAML or JSON text."""

    OLDER: ClassVar[dict[str, str]] = {"yaml": "spec", "document": "spec", "spec_yaml": "spec"}

    spec: dict[str, Json] | str


class AuthorizationBody(Body):
    """Who must approve a plan for every run of it, and how many of them."""

    roles: Annotated[list[Role], Field(min_length=1)] = [Role.APPROVER]
    quorum: Annotated[Whole, Field(ge=1, le=100)] = 1


class DecisionBody(Body):
    """A decision on exactly what `digest` names: codec.digest of the approval's `shown`."""

    OLDER: ClassVar[dict[str, str]] = {"decision": "action", "comment": "reason", "plan_id": "digest"}

    action: Literal["approve", "reject"]
    digest: Text
    reason: Text = ""


class TokenBody(Body):
    """A token to make."""

    name: Name
    roles: Annotated[list[Role], Field(min_length=1)]


class ConnectionBody(Body):
    """An integration's settings, and references to its secrets (`env:NAME`, `file:PATH`), never secrets themselves."""

    integration: Name
    settings: Annotated[dict[str, Json], AfterValidator(_keepable)] = {}
    secrets: dict[Name, Text] = {}

    @model_validator(mode="after")
    def _references(self) -> "ConnectionBody":
        for name, reference in self.secrets.items():
            scheme, colon, rest = reference.partition(":")
            if not (colon and rest and scheme.isascii() and scheme.isalpha()):
                message = f"secret {name!r} must be a reference such as env:NAME or file:/path; secrets themselves are never sent"
                raise ValueError(message)
        return self


class ToolRunBody(Body):
    """One call of a tool, as a plan of one step: governed like any ToolPlan."""

    OLDER: ClassVar[dict[str, str]] = {
        "args": "arguments",
        "with": "arguments",
        "params": "arguments",
        "payload": "arguments",
    }

    arguments: dict[str, Json] = {}
    subject: Name | None = None
    stage: Name | None = None
    labels: Labels = {}


class DashboardRunBody(Body):
    """A dashboard's inputs."""

    OLDER: ClassVar[dict[str, str]] = {"params": "inputs"}

    inputs: dict[str, Json] = {}
    subject: Name | None = None


def idempotency_key(given: str | None, most: int) -> str | None:
    """Check an Idempotency-Key; raises ValidationError."""
    if given is None:
        return None
    if not given.strip() or len(given) > most or not given.isprintable():
        message = f"Idempotency-Key must be 1 to {most} printable characters"
        raise ValidationError(message, details={"field": KEY_HEADER})
    return given
