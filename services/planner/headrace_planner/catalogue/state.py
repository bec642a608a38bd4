"""What a definition remembers: one struct for each thing that the catalogue keeps (pure)."""

import msgspec

from headrace import ids
from headrace.events.base import Actor
from headrace.events.catalogue import (
    AuthorizationRequested,
    ConnectionSaved,
    PlanRecorded,
    TokenCreated,
    ToolAnnounced,
    WorkflowApplied,
)

PENDING = "pending"
APPROVED = "approved"
UNASKED = "none"
"""Where the authorisation of a plan stands that nobody asked for."""


class Workflow(msgspec.Struct, tag="workflow"):
    """The newest version of a document, and the plan that it compiles to now (none: `problems` say why)."""

    applied: WorkflowApplied
    plan_digest: str | None
    problems: tuple[str, ...] = ()


class Authorization(msgspec.Struct):
    """A request that a plan be authorised for every run of it, and what became of it."""

    request: AuthorizationRequested
    requested_at: int
    received: bool = False
    status: str = PENDING
    by: tuple[Actor, ...] = ()
    reason: str = ""


class Plan(msgspec.Struct, tag="plan"):
    """A recorded plan; its body is the blob that its digest names."""

    recorded: PlanRecorded
    authorization: Authorization | None = None

    @property
    def standing(self) -> str:
        """Tell where the authorisation stands: none, pending, approved, rejected, expired or superseded."""
        return UNASKED if self.authorization is None else self.authorization.status

    @property
    def unheard(self) -> Authorization | None:
        """Give the request that the gatekeeper has not confirmed yet."""
        asked = self.authorization
        return asked if asked is not None and asked.status == PENDING and not asked.received else None


class Tool(msgspec.Struct, tag="tool"):
    """A tool as its worker announced it last."""

    announced: ToolAnnounced


class Token(msgspec.Struct, tag="token"):
    """An access token; only a hash of its secret."""

    created: TokenCreated
    revoked_at: int | None = None


class Connection(msgspec.Struct, tag="connection"):
    """A connected integration: settings, and references to secrets."""

    saved: ConnectionSaved
    deleted: bool = False


Thing = Workflow | Plan | Tool | Token | Connection


class Definition(msgspec.Struct, kw_only=True):
    """A stream of the catalogue."""

    id: str
    workspace: str
    version: int = 0
    created_at: int = 0
    updated_at: int = 0
    updated_by: str = ""
    thing: Thing | None = None


def stream_of(kind: str, workspace: str, name: str) -> str:
    """Give the stream of a definition."""
    return ids.definition(kind, workspace, name)
