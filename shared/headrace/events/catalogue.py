"""Events of definitions (log `catalogue`, written by the planner) (pure)."""

from typing import Any

import msgspec

from headrace.codec import Raw
from headrace.events.base import Actor, Event, RateLimit


class ToolManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says about a tool it can perform; a plan pins its digest.

    `rate_limit` is left out, and out of the digest, where there is none: so tools of before keep their digests.
    """

    name: str
    version: str
    effect: str
    access: str
    idempotent: bool
    pool: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    description: str = ""
    kind: str = "tool"
    requires_connection: str | None = None
    rate_limit: RateLimit | msgspec.UnsetType = msgspec.UNSET


class WorkflowApplied(Event, frozen=True, kw_only=True, tag="workflow.applied"):
    """Written when a document is applied and differs from the version before it."""

    name: str
    kind: str
    version: int
    spec: Raw
    plan_digest: str
    by: Actor


class WorkflowCompiled(Event, frozen=True, kw_only=True, tag="workflow.compiled"):
    """Written when a workflow's plan changed because a tool it uses did; `problems` when it no longer compiles."""

    name: str
    version: int
    plan_digest: str | None = None
    problems: tuple[str, ...] = ()


class PlanRecorded(Event, frozen=True, kw_only=True, tag="plan.recorded"):
    """Written when a plan is first compiled: its body is the blob whose sha256 is the plan's digest."""

    digest: str
    name: str
    kind: str
    gated: bool
    by: Actor


class AuthorizationRequested(Event, frozen=True, kw_only=True, tag="plan.authorization_requested"):
    """Written when somebody asks that a plan's digest be authorised for every run of it."""

    digest: str
    approval_id: str
    shown: Raw
    shown_digest: str
    requester: Actor
    roles: tuple[str, ...] = ("approver",)
    quorum: int = 1


class AuthorizationReceived(Event, frozen=True, kw_only=True, tag="plan.authorization_received"):
    """Written when the gatekeeper has the request on record, so that it need not be asked again."""

    approval_id: str


class AuthorizationResolved(Event, frozen=True, kw_only=True, tag="plan.authorization_resolved"):
    """Written when the gatekeeper's outcome arrives: from now on the plan is authorised, or it is not."""

    digest: str
    approval_id: str
    status: str
    by: tuple[Actor, ...] = ()
    reason: str = ""


class ToolAnnounced(Event, frozen=True, kw_only=True, tag="tool.announced"):
    """Written when a worker brings a tool that is new or differs from the one on record."""

    manifest: ToolManifest
    digest: str
    worker: str


class TokenCreated(Event, frozen=True, kw_only=True, tag="token.created"):
    """Written when an access token is made; only a hash of it is kept."""

    token_id: str
    name: str
    roles: tuple[str, ...]
    secret_hash: str
    by: Actor


class TokenRevoked(Event, frozen=True, kw_only=True, tag="token.revoked"):
    """Written when an access token stops being good."""

    token_id: str
    by: Actor


class ConnectionSaved(Event, frozen=True, kw_only=True, tag="connection.saved"):
    """Written when an integration is connected: its settings, and references to secrets, never secrets."""

    name: str
    integration: str
    settings: dict[str, Any]
    secrets: dict[str, str]
    by: Actor


class ConnectionDeleted(Event, frozen=True, kw_only=True, tag="connection.deleted"):
    """Written when a connection is taken away."""

    name: str
    by: Actor


CatalogueEvent = (
    WorkflowApplied
    | WorkflowCompiled
    | PlanRecorded
    | AuthorizationRequested
    | AuthorizationReceived
    | AuthorizationResolved
    | ToolAnnounced
    | TokenCreated
    | TokenRevoked
    | ConnectionSaved
    | ConnectionDeleted
)
