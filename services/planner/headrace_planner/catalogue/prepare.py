"""The shell beside the catalogue: compiles what commands bring, with the tools that are known now."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from headrace import codec
from headrace.clock import Clock
from headrace.codec import NULL, Raw
from headrace.decider import Context
from headrace.errors import NotFoundError
from headrace.events.catalogue import ToolManifest
from headrace.ids import PLAN, WORKFLOW
from headrace.messages import ApplyWorkflow, CatalogueCommand, RecompileWorkflow, RecordPlan
from headrace.plans import model
from headrace.policy import may
from headrace.specs.documents import Document, from_value, read_one
from headrace.specs.problems import Problems
from headrace_planner.catalogue.plans import refuse_problems
from headrace_planner.catalogue.reading import Plans, Store, Tools
from headrace_planner.catalogue.state import stream_of
from headrace_planner.compile.children import Callee, Workflows, callee

Compiler = Callable[[Document, Mapping[str, ToolManifest], Workflows], model.Plan | Problems]
"""The compile as a function of a document, the known tools, and the workflows that it may run as children."""
COMPILED_KEPT: Final = 128


class Compiled(msgspec.Struct, frozen=True):
    """What became of a document: its canonical form, and its plan's canonical bytes or its problems."""

    spec: Raw
    plan: Raw = NULL
    problems: tuple[dict[str, Any], ...] = ()


class CataloguePreparer:
    """Puts the compiled plan, or what is wrong with the document, into the catalogue's commands."""

    prepares: Final = (RecordPlan, ApplyWorkflow, RecompileWorkflow)

    def __init__(self, log: Store, clock: Clock, compiler: Compiler) -> None:
        self._log, self._compiler = log, compiler
        self._kept: OrderedDict[tuple[str, str], Compiled] = OrderedDict()
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
                made = await self.compiled(command.spec, context.workspace)
                refuse_problems(made.problems)
                return msgspec.structs.replace(command, spec=made.spec, plan=made.plan, problems=())
            case RecompileWorkflow():
                made = await self.compiled(await self._newest(context), context.workspace)
                return msgspec.structs.replace(command, plan=made.plan, problems=made.problems)
            case _:
                return command

    def route(self, command: CatalogueCommand, context: Context) -> str | None:
        """Give the stream of a plan that is recorded: it hangs on the plan's own digest."""
        if not isinstance(command, RecordPlan) or command.plan == NULL:
            return None
        return stream_of(PLAN, context.workspace, codec.sha256(bytes(command.plan)))

    async def compiled(self, spec: Raw, workspace: str) -> Compiled:
        """Compile a document, JSON or (a JSON string) its YAML text, unless that was done with the same tools.

        Raises ValidationError when the text is no document at all.
        """
        tools = await self.tools.of(workspace)
        key = codec.sha256(bytes(spec)), tools.digest
        known = self._kept.get(key)
        if known is None:
            value = codec.loads(spec)
            document = read_one(value) if isinstance(value, str) else from_value(value)
            children = await self._workflows(document, workspace)
            outcome = self._compiler(document, tools.manifests, children)
            if isinstance(outcome, model.Plan):
                known = Compiled(codec.raw(document.value), Raw(model.canonical(outcome)))
            else:
                known = Compiled(spec, problems=outcome.as_dicts())
            if any(step.sub_workflow is not None for _, step in document.steps):
                return known  # a child may move on, which no key of ours would tell
            self._kept[key] = known
            if len(self._kept) > COMPILED_KEPT:
                self._kept.popitem(last=False)
        return known

    async def _workflows(self, document: Document, workspace: str) -> dict[str, Callee]:
        """Give the newest version of every workflow that a document's steps name."""
        named = {step.sub_workflow.workflow for _, step in document.steps if step.sub_workflow is not None}
        found: dict[str, Callee] = {}
        for name in sorted(named):
            row = await self._log.row("workflows", {"id": stream_of(WORKFLOW, workspace, name)})
            if row is not None and row["plan_digest"] is not None:
                plan = await self.plans.get(row["plan_digest"])
                found[name] = callee(row["version"], row["plan_digest"], plan)
        return found

    async def _newest(self, context: Context) -> Raw:
        row = await self._log.row("workflows", {"id": context.stream_id})
        if row is None:
            message = f"there is no workflow {context.stream_id}"
            raise NotFoundError(message)
        return codec.raw(row["spec"])
