"""What a definition remembers of its events (pure)."""

from typing import assert_never

from headrace.events.catalogue import (
    AuthorizationReceived,
    AuthorizationRequested,
    AuthorizationResolved,
    CatalogueEvent,
    ConnectionDeleted,
    ConnectionSaved,
    PlanRecorded,
    TokenCreated,
    TokenRevoked,
    ToolAnnounced,
    WorkflowApplied,
    WorkflowCompiled,
)
from headrace_planner.catalogue.state import (
    Authorization,
    Connection,
    Definition,
    Plan,
    Token,
    Tool,
    Workflow,
)


def evolve(state: Definition, event: CatalogueEvent, at: int) -> Definition:
    """Remember an event that happened at `at`; updates the state in place."""
    state.version += 1
    state.created_at = state.created_at or at
    state.updated_at = at
    match event:
        case WorkflowApplied():
            state.thing = Workflow(applied=event, plan_digest=event.plan_digest)
            state.updated_by = event.by.name
        case WorkflowCompiled(plan_digest=plan_digest, problems=problems):
            workflow = state.thing
            assert isinstance(workflow, Workflow)
            workflow.plan_digest, workflow.problems = plan_digest, problems
        case PlanRecorded():
            state.thing = Plan(recorded=event)
        case AuthorizationRequested():
            _plan(state).authorization = Authorization(request=event, requested_at=at)
        case AuthorizationReceived():
            _asked(state).received = True
        case AuthorizationResolved(status=status, by=by, reason=reason):
            asked = _asked(state)
            asked.received, asked.status, asked.by, asked.reason = True, status, by, reason
        case ToolAnnounced():
            state.thing = Tool(announced=event)
        case TokenCreated():
            state.thing = Token(created=event)
        case TokenRevoked(by=by):
            token = state.thing
            assert isinstance(token, Token)
            token.revoked_at = at
            state.updated_by = by.name
        case ConnectionSaved():
            state.thing = Connection(saved=event)
            state.updated_by = event.by.name
        case ConnectionDeleted(by=by):
            connection = state.thing
            assert isinstance(connection, Connection)
            connection.deleted = True
            state.updated_by = by.name
        case _:
            assert_never(event)
    return state


def _plan(state: Definition) -> Plan:
    assert isinstance(state.thing, Plan), "only a recorded plan is authorised"
    return state.thing


def _asked(state: Definition) -> Authorization:
    authorization = _plan(state).authorization
    assert authorization is not None, "nobody asked for this authorisation"
    return authorization
