"""The shell beside runs: may this plan run now, by its authorisation, its connections and its workflow."""

from collections.abc import Collection
from typing import Any, Final, Protocol

import msgspec

from headrace import codec
from headrace.decider import Context
from headrace.errors import ConflictError, NotAuthorizedError, NotConnectedError, NotFoundError
from headrace.events.base import ErrorInfo
from headrace.ids import PLAN, WORKFLOW
from headrace.messages import CreateRun, RunCommand
from headrace.plans.model import CallStep, GateStep, Plan
from headrace.specs.rates import SETTING, parse
from headrace.steering import SettleOutcome
from headrace.vocabulary import POOL_GATES, Access, WaitingFor
from headrace_planner.catalogue.admission import Admission
from headrace_planner.catalogue.decide import TOOL_PLAN
from headrace_planner.catalogue.reading import PLANS_KEPT, Plans, Store, all_rows
from headrace_planner.catalogue.reruns import Reruns
from headrace_planner.catalogue.state import APPROVED, UNASKED, stream_of
from headrace_planner.catalogue.views import ACTIVE

BEFORE_ANY_RUN: Final = "plan"
NO_AUTHORIZATION: Final = "none"
WHY: Final = {
    UNASKED: "nobody asked for its authorisation",
    "pending": "its authorisation is pending: nobody has decided yet",
    "rejected": "its authorisation was rejected",
    "expired": "its authorisation expired undecided, which counts as rejected",
    "superseded": "its authorisation was withdrawn",
}


NO_CONNECTIONS: Final = codec.raw({})


class Free(msgspec.Struct, frozen=True):
    """A plan that is recorded in a workspace, which stays so, and whose runs no authorisation concerns.

    `pools` are those that its steps need; `alone` says that it needs no connection.
    """

    plan: Plan
    pools: frozenset[str]
    alone: bool


class Presence(Protocol):
    """Who lives, as the owner host hears it."""

    def pools(self) -> Collection[str]:
        """Give the pools that a live worker serves."""
        ...


class RunPreparer:
    """Brings what a new run needs to know from outside: its plan's standing, connections, and whether workers live."""

    prepares: Final = (CreateRun, SettleOutcome)

    def __init__(self, log: Store, presence: Presence, admission: Admission | None = None) -> None:
        self._log, self._presence, self._admission = log, presence, admission
        self._plans = Plans(log)
        self._reruns = Reruns(log, self._plans)
        self._free: dict[tuple[str, str], Free] = {}

    def at_once(self, command: RunCommand, context: Context) -> CreateRun | None:
        """Give the command with the planner's findings if nothing need be read for them; raises RateLimitedError."""
        if not isinstance(command, CreateRun) or command.parent or command.workflow is not None or command.retry_of:
            return None
        known = self._free.get((context.workspace, command.plan_digest))
        if known is None or not known.alone:
            return None
        if self._admission is not None and not self._admission.at_once(context.workspace):
            return None
        return msgspec.structs.replace(
            command,
            authorized=False,
            connections=NO_CONNECTIONS,
            workers_active=known.pools.issubset(self._presence.pools()),
            reused=(),
            workflow_version=command.workflow_version or None,
        )

    async def prepare(self, command: RunCommand, context: Context) -> RunCommand:
        """Give the command with the planner's findings.

        Raises NotFoundError (no such plan or workflow), NotAuthorizedError, NotConnectedError naming every integration
        that is missing, ConflictError when the workflow has moved on to another plan, RateLimitedError when the workspace has
        too many runs that are not finished (a child is let in: its parent is, and waits for it).
        """
        if isinstance(command, SettleOutcome):
            await self._reruns.check_settled(command, context)
        if not isinstance(command, CreateRun):
            return command
        if command.parent is not None:
            return await self._child(command)
        if self._admission is not None:
            await self._admission.admit(context.workspace)
        workflow = await self._workflow(command, context)
        plan, standing = await self._plan(command, context, workflow)
        authorized = standing == APPROVED
        if not authorized and (plan.kind == TOOL_PLAN or plan.authorization == BEFORE_ANY_RUN):
            raise _not_authorized(command.plan_digest, standing)
        connections = await self._connections(plan, context.workspace)
        return msgspec.structs.replace(
            command,
            authorized=authorized,
            connections=codec.raw(connections),
            workers_active=pools_of(plan) <= set(self._presence.pools()),
            reused=await self._reruns.reused(command, context) if command.retry_of and command.rerun_from else (),
            workflow_version=command.workflow_version or (workflow["version"] if workflow else None),
        )

    async def _child(self, command: CreateRun) -> CreateRun:
        """Give the command with what can be found of a child: its parent has its permission and its connections.

        What keeps it from running goes into the command, so that its parent is told; only an outage is raised.
        """
        if command.cancelled is not None:
            return msgspec.structs.replace(command, refused=None)
        try:
            plan = await self._plans.get(command.plan_digest)
        except NotFoundError as problem:
            refused = ErrorInfo(type=problem.type, message=problem.message)
            return msgspec.structs.replace(command, plan_digest="", refused=refused)
        active = pools_of(plan) <= set(self._presence.pools())
        given = codec.loads(command.connections) or {}
        keys = {integration if name is None else f"{integration}/{name}" for integration, name in _wanted(plan)}
        missing = sorted(keys - given.keys())
        if not missing:
            return msgspec.structs.replace(command, workers_active=active, refused=None)
        message = f"not connected when its parent was created: {', '.join(missing)}"
        refused = ErrorInfo(type=NotConnectedError.type, message=message, details={"integrations": missing})
        return msgspec.structs.replace(command, workers_active=active, refused=refused)

    async def _workflow(self, command: CreateRun, context: Context) -> dict[str, Any] | None:
        if command.workflow is None:
            return None
        stream = stream_of(WORKFLOW, context.workspace, command.workflow)
        row = await self._log.row("workflows", {"id": stream})
        if row is None:
            message = f"there is no workflow {command.workflow!r}"
            raise NotFoundError(message)
        version = command.workflow_version or row["version"]
        if version > row["version"]:
            message = f"workflow {command.workflow!r} has no version {version}; the newest is {row['version']}"
            raise NotFoundError(message)
        if version == row["version"] and command.retry_of is None and command.plan_digest != row["plan_digest"]:
            message = (
                f"version {version} of workflow {command.workflow!r} now means plan {row['plan_digest']}, "
                f"not {command.plan_digest}"
            )
            raise ConflictError(message, details={"problems": row["problems"]})
        return row

    async def _plan(self, command: CreateRun, context: Context, workflow: dict[str, Any] | None) -> tuple[Plan, str]:
        """Give the plan and where its authorisation stands. A workflow's own plan may not be recorded by itself yet."""
        digest = command.plan_digest
        free = self._free.get((context.workspace, digest))
        if free is not None:
            return free.plan, UNASKED
        row = await self._log.row("plans", {"id": stream_of(PLAN, context.workspace, digest)})
        if row is None and workflow is None:
            message = f"there is no plan {digest}"
            raise NotFoundError(message)
        plan = await self._plans.get(digest)
        if row is not None and not authorizable(plan):
            if len(self._free) >= PLANS_KEPT:
                self._free.clear()
            self._free[context.workspace, digest] = Free(plan, frozenset(pools_of(plan)), not _wanted(plan))
        return plan, row["authorization"] if row else UNASKED

    async def _connections(self, plan: Plan, workspace: str) -> dict[str, Any]:
        """Give the connection of each integration, and each that a step names as `integration/name`."""
        wanted = _wanted(plan)
        if not wanted:
            return {}
        integrations = sorted({integration for integration, _ in wanted})
        rows = await all_rows(
            self._log, "connections", {"workspace": workspace, "integration": integrations, "deleted": False}
        )
        usable = sorted((row for row in rows if row["status"] == ACTIVE), key=lambda row: str(row["name"]))
        found: dict[str, Any] = {}
        missing: list[str] = []
        for integration, name in wanted:
            fitting = [row for row in usable if row["integration"] == integration and name in {None, row["name"]}]
            if not fitting:
                missing.append(integration if name is None else f"{integration} ({name})")
                continue
            chosen = next((row for row in fitting if row["name"] == integration), fitting[0])
            key = integration if name is None else f"{integration}/{name}"
            if SETTING in (chosen["settings"] or {}):
                parse(chosen["settings"][SETTING])
            found[key] = {part: chosen[part] for part in ("name", "settings", "secrets")}
        if missing:
            message = f"not connected: {', '.join(missing)}"
            raise NotConnectedError(message, details={"integrations": missing, "waiting_for": WaitingFor.CONNECTION})
        return found


def authorizable(plan: Plan) -> bool:
    """Tell whether an authorisation makes a difference to runs of a plan: something of it is gated, or the whole is."""
    gated = any(pin.access == Access.GATED for pin in plan.tools.values())
    gated = gated or any(pin.gated for pin in plan.workflows.values())
    return gated or plan.kind == TOOL_PLAN or plan.authorization != NO_AUTHORIZATION


def pools_of(plan: Plan) -> set[str]:
    """Give the pools that a plan's steps need."""
    pools = {plan.tools[step.body.tool].pool for step in plan.steps if isinstance(step.body, CallStep)}
    return pools | ({POOL_GATES} if any(isinstance(step.body, GateStep) for step in plan.steps) else set())


def _wanted(plan: Plan) -> list[tuple[str, str | None]]:
    """Give (integration, connection) as the steps, and those of sub-workflows, name them; no name: the integration's own."""
    wanted: dict[tuple[str, str | None], None] = {}
    for pin in plan.workflows.values():
        for key in pin.integrations:
            named, _, connection = key.partition("/")
            wanted[named, connection or None] = None
    for step in (*plan.steps, *plan.compensations):
        if isinstance(step.body, CallStep):
            integration = plan.tools[step.body.tool].requires_connection
            if integration is not None:
                wanted[integration, step.body.connection] = None
    return sorted(wanted, key=lambda pair: (pair[0], pair[1] or ""))


def _not_authorized(digest: str, standing: str) -> NotAuthorizedError:
    message = f"plan {digest} may not run: {WHY.get(standing, standing)}"
    return NotAuthorizedError(message, details={"plan_digest": digest, "authorization": standing})
