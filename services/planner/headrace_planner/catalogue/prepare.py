"""The shell beside the catalogue: compiles what commands bring, with the tools that are known now."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from headrace import codec
from headrace.clock import Clock
from headrace.codec import NULL, Raw
from headrace.decider import Context
from headrace.errors import HeadraceError, NotFoundError
from headrace.events.catalogue import ToolManifest
from headrace.messages import ApplyWorkflow, CatalogueCommand, RecompileWorkflow, RecordPlan
from headrace.plans import model
from headrace.policy import may
from headrace_planner.catalogue.plans import refuse_problems
from headrace_planner.catalogue.reading import Plans, Store, Tools
from headrace_planner.catalogue.state import PLAN, stream_of

Problems = tuple[dict[str, Any], ...]
Compiler = Callable[[Any, Mapping[str, ToolManifest]], model.Plan | Problems]
"""The compile as a function of a document and the known tools: the plan, or every problem with its place."""


class CataloguePreparer:
    """Puts the compiled plan, or what is wrong with the document, into the catalogue's commands."""

    prepares: Final = (RecordPlan, ApplyWorkflow, RecompileWorkflow)

    def __init__(self, log: Store, clock: Clock, compiler: Compiler) -> None:
        self._log, self._compiler = log, compiler
        self.tools = Tools(log, clock)
        self.plans = Plans(log)

    async def prepare(self, command: CatalogueCommand, context: Context) -> CatalogueCommand:
        """Give the command with its plan; raises ValidationError that lists the document's problems."""
        match command:
            case RecordPlan(plan_digest=str(digest)):
                may(context.actor, "plan")
                await self.plans.get(digest)
                return msgspec.structs.replace(command, plan=Raw(await self.plans.body(digest)), problems=())
            case RecordPlan() | ApplyWorkflow():
                may(context.actor, "plan" if isinstance(command, RecordPlan) else "apply")
                plan, problems = await self.compiled(codec.loads(command.spec), context.workspace)
                refuse_problems(problems)
                return msgspec.structs.replace(command, plan=plan, problems=())
            case RecompileWorkflow():
                document = await self._newest(context)
                plan, problems = await self.compiled(document, context.workspace)
                return msgspec.structs.replace(command, plan=plan, problems=problems)
            case _:
                return command

    def route(self, command: CatalogueCommand, context: Context) -> str | None:
        """Give the stream of a plan that is recorded: it hangs on the plan's own digest."""
        if not isinstance(command, RecordPlan) or command.plan == NULL:
            return None
        return stream_of(PLAN, context.workspace, codec.sha256(bytes(command.plan)))

    async def compiled(self, document: Any, workspace: str) -> tuple[Raw, Problems]:
        """Give the canonical bytes of a document's plan, or its problems."""
        tools = await self.tools.of(workspace)
        try:
            outcome = self._compiler(document, tools)
        except HeadraceError as problem:
            listed = problem.details.get("problems")
            return NULL, tuple(listed) if listed else ({"message": problem.message},)
        if isinstance(outcome, model.Plan):
            return Raw(model.canonical(outcome)), ()
        return NULL, outcome

    async def _newest(self, context: Context) -> Any:
        row = await self._log.row("workflows", {"id": context.stream_id})
        if row is None:
            message = f"there is no workflow {context.stream_id}"
            raise NotFoundError(message)
        return row["spec"]
