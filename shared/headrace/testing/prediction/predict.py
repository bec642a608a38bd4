"""`predict`: a document, what is supposed, and the tools there are; given back is what would happen.

    told = predict(text, Scenario(inputs={"root": "src"}, rejected=frozenset({"sign_off"})), tools_here())

Nothing is performed: log, bus and clock are in memory, every tool is a stub. No file and no socket is touched.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from headrace import codec, ids
from headrace.errors import HeadraceError, NotAuthorizedError, ToolNotFoundError, ValidationError
from headrace.events.runs import RunQueued
from headrace.messages import CreateRun, SaveConnection
from headrace.plans import model
from headrace.plans.model import ApprovalStep, CallStep, Plan
from headrace.specs.documents import Document, read
from headrace.specs.models import Compensation, Step
from headrace.specs.problems import error_of
from headrace.testing import virtual
from headrace.testing.engine import Engine
from headrace.testing.prediction import story
from headrace.testing.prediction.scenario import APPROVE, FAIL, REJECT, SIGNALS, STUBS, WHOLE_RUN, Scenario
from headrace.testing.prediction.stubs import GATE, Book, Stub, stubs
from headrace.testing.prediction.told import ApprovalTold, OpenTold, StepTold, Told
from headrace.testing.prediction.walk import APPROVER, YOU, Walk, people
from headrace.testing.views import Run
from headrace.vocabulary import LOG_CATALOGUE, LOG_RUNS, RUN_FINAL, WORKSPACE_DEFAULT, Automation, RunStatus, WaitingFor

COST: Final = "not known"
NOBODY: Final = Path("/")
"""The file root of stubs, which touch none."""
REFUSED: Final = "refused"
SLOTS: Final = 1
"""Attempts that a worker performs at once: one, so that calls come in the same order every time."""
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def predict(text: str, scenario: Scenario, tools: Mapping[str, Any], others: Sequence[str] = ()) -> Told:
    """Say what a document's run would do; `others` are documents of workflows that it runs as children.

    Raises ValidationError for a document with problems, or something supposed that the plan has no place for.
    """
    documents = [document for each in (text, *others) for document in _read(each)]
    return virtual.run(_predict(documents, scenario, tools))


def tools_needed(texts: Sequence[str]) -> set[str]:
    """Name the tools that documents use, gates as `gate.<name>`; raises ValidationError when one cannot be read."""
    return {name for text in texts for document in _read(text) for _, step in document.steps for name in _tools(step)}


def missing(names: set[str]) -> ToolNotFoundError:
    """Make the error about tools that are not there, with the remedy."""
    message = (
        f"not installed here: {', '.join(sorted(names))}; install the plug-in that offers it, name its file by --tools, "
        "or name a running stack that has it by --url"
    )
    return ToolNotFoundError(message, details={"tools": sorted(names)})


def _read(text: str) -> list[Document]:
    documents = read(text)
    for document in documents:
        if document.problems:
            raise error_of(document.problems.as_dicts())
    return documents


def _tools(step: Step) -> Iterator[str]:
    parts: list[Step | Compensation] = [step]
    if step.compensate is not None:
        parts.append(step.compensate)
    for part in parts:
        if part.kind == "tool":
            yield str(part.tool)
        elif part.kind == "http" and part.http is not None:
            yield "http" if part.http.method in SAFE_METHODS else "http_write"
        elif part.kind == "integration" and part.integration is not None:
            yield f"{part.integration.name}.{part.integration.operation}"
    if step.gate is not None:
        yield f"gate.{step.gate.type}"


async def _predict(documents: Sequence[Document], scenario: Scenario, tools: Mapping[str, Any]) -> Told:
    main, *children = documents
    _children_known(documents, fields=scenario.fields)
    places: list[Walk] = []
    book = Book(scenario, lambda: places[0])
    made = stubs(tools.values(), book)
    roles = people(_widest(documents))
    async with Engine(
        tools=made, file_root=NOBODY, people=roles, slots=SLOTS, precheck=lambda _condition, _root: None
    ) as engine:
        walk = Walk(engine, scenario)
        places.append(walk)
        await _apply(engine, children)
        digest = await engine.plan(main.value, as_=YOU)
        plans = {"": await _plan(engine, digest)}
        _check(plans[""], scenario, {stub.name: stub for stub in made})
        await _connect(engine, plans[""])
        try:
            if plans[""].authorization == "plan" and scenario.decision(WHOLE_RUN) == "approve":
                await engine.authorize(main.value, as_=YOU, by=APPROVER.format(1))
            inputs = codec.raw(dict(scenario.inputs))
            known = await engine.ask(LOG_RUNS, CreateRun(plan_digest=digest, inputs=inputs), as_=YOU)
        except NotAuthorizedError as problem:
            return _refused(plans[""], digest, problem)
        run = Run(engine, known["id"])
        await walk.to_the_end()
        return await _told(engine, walk, book, run, plans, scenario)


def _children_known(documents: Sequence[Document], *, fields: bool) -> None:
    """Raise ValidationError for a workflow that is run as a child and whose document was not given."""
    named = {one.sub_workflow.workflow for doc in documents for _, one in doc.steps if one.sub_workflow is not None}
    absent = sorted(named - {document.name for document in documents})
    if absent:
        by = "in `also`" if fields else "by --also FILE"
        message = f"it runs the workflow {', '.join(absent)}: give its document {by}"
        raise ValidationError(message, details={"field": "also"} if fields else None)


async def _apply(engine: Engine, children: Sequence[Document]) -> None:
    """Keep the workflows that are run as children, those first that others run; raises what is wrong with the last."""
    left = list(children)
    while left:
        problem: ValidationError | None = None
        for document in list(left):
            try:
                await engine.apply(document.value, as_=YOU)
            except ValidationError as found:
                problem = found
                continue
            left.remove(document)
            problem = None
            break
        if problem is not None:
            raise problem


async def _plan(engine: Engine, digest: str) -> Plan:
    return model.parse((await engine.log.get_blobs([digest]))[digest])


def _widest(documents: Sequence[Document]) -> int:
    """Give the widest quorum that any approval asks for."""
    return max((step.approval.quorum for doc in documents for _, step in doc.steps if step.approval), default=1)


def _check(plan: Plan, scenario: Scenario, made: Mapping[str, Stub]) -> None:
    steps = {step.id: step for step in (*plan.steps, *plan.compensations)}
    asked = [step.id for step in plan.steps if isinstance(step.body, ApprovalStep) or step.confirm]
    scenario.check(steps, asked)
    for name, value in scenario.stubs.items():
        step = steps[name.partition("/")[0].partition("[")[0].partition("#")[0]]
        if "/" not in name:
            _performer(step, made, scenario, (STUBS, name)).fits(name, value)
    for name in scenario.failures:
        step = steps[name.partition("/")[0].partition("[")[0].partition("#")[0]]
        if "/" not in name:
            _performer(step, made, scenario, (FAIL, name))


def _performer(step: model.PlanStep, made: Mapping[str, Stub], scenario: Scenario, given: tuple[str, str]) -> Stub:
    name = step.body.tool if isinstance(step.body, CallStep) else f"gate.{getattr(step.body, 'gate', '')}"
    if name not in made:
        message = f"no tool performs a step of kind {step.kind}; suppose a decision, a signal or another input"
        raise scenario.wrong(*given, message)
    return made[name]


async def _connect(engine: Engine, plan: Plan) -> None:
    """Suppose every connection that the plan, or a child of it, needs."""
    wanted = set(_connections(plan))
    for each in sorted(wanted):
        integration, _, name = each.partition("/")
        command = SaveConnection(name=name or integration, integration=integration)
        stream = ids.definition(ids.CONNECTION, WORKSPACE_DEFAULT, name or integration)
        await engine.ask(LOG_CATALOGUE, command, stream=stream, as_=YOU)


def _connections(plan: Plan) -> Iterator[str]:
    for step in (*plan.steps, *plan.compensations):
        if isinstance(step.body, CallStep):
            integration = plan.tools[step.body.tool].requires_connection
            if integration is not None:
                yield f"{integration}/{step.body.connection}" if step.body.connection else integration
    for pin in plan.workflows.values():
        yield from pin.integrations


def _refused(plan: Plan, digest: str, problem: HeadraceError) -> Told:
    """Tell of a run that would not even be made."""
    first = story.Story("", plan)
    return Told(
        name=plan.name,
        kind=plan.kind,
        plan_digest=digest,
        status=REFUSED,
        error={"type": problem.type, "message": problem.message},
        outputs=None,
        virtual_s=0.0,
        cost=COST,
        steps=first.told(),
        effects=[],
        permissions=story.permissions("", plan),
        approvals=[],
        waits=[],
        open=[],
        path=[],
        supposed=[],
    )


async def _told(engine: Engine, walk: Walk, book: Book, run: Run, plans: dict[str, Plan], scenario: Scenario) -> Told:
    stories: dict[str, story.Story] = {}
    for each in walk.happened:
        path = walk.path_of(each.run_id)
        if isinstance(each.event, RunQueued) and each.run_id not in stories:
            plans[path] = await _plan(engine, each.event.plan_digest)
            stories[each.run_id] = story.Story(path, plans[path])
        stories[each.run_id].take(each.at_s, each.event)
    for one in stories.values():
        for step, digest in one.bodies.items():
            one.steps[step].output = codec.loads((await engine.log.get_blobs([digest]))[digest])
    steps = [step for one in stories.values() for step in one.told()]
    _mark(steps, book, walk)
    row = run.row
    error = {"type": row["error_type"], "message": row["error_message"]} if row["error_type"] else None
    return Told(
        name=plans[""].name,
        kind=plans[""].kind,
        plan_digest=row["plan_digest"],
        status=row["status"] if row["status"] in RUN_FINAL else RunStatus.WAITING,
        error=error,
        outputs=run.outputs,
        virtual_s=max((each.at_s for each in walk.happened), default=0.0),
        cost=COST,
        steps=steps,
        effects=story.effects(book.calls, walk.path_of),
        permissions=[each for path, plan in plans.items() for each in story.permissions(path, plan)],
        approvals=[*await _of_plans(engine), *story.approvals(walk.happened, walk.decided, walk.path_of)],
        waits=story.waits(walk.happened, walk.given, walk.path_of),
        open=await _open(engine, walk, scenario),
        path=story.way(walk.happened, walk.path_of),
        supposed=_supposed(plans, steps, scenario),
    )


async def _of_plans(engine: Engine) -> list[ApprovalTold]:
    """Give the approvals that were asked for plans as a whole."""
    rows = await engine.log.rows("approvals", {"subject": "plan"}, descending=False)
    return [
        ApprovalTold(step="", roles=row["roles"], quorum=row["quorum"], shown=row["shown"], decision=row["status"])
        for row in rows
    ]


def _mark(steps: Sequence[StepTold], book: Book, walk: Walk) -> None:
    """Mark the steps with a result that nobody gave."""
    made_up = {(walk.path_of(call.run_id), call.step) for call in book.calls if call.made_up}
    for step in steps:
        step.made_up = (step.run, step.step) in made_up


async def _open(engine: Engine, walk: Walk, scenario: Scenario) -> list[OpenTold]:
    """Say what the runs stand still for."""
    found: list[OpenTold] = []
    for row in await engine.log.rows("runs", {}, limit=1_000, descending=False):
        for each in [] if row["status"] in RUN_FINAL else (row["detail"] or {}).get("waiting") or []:
            path, step = walk.path_of(row["id"]), each["step"] or ""
            if each["for"] != WaitingFor.CHILDREN:
                remedy = _remedy(each["for"], path + step, str(each.get("name") or each["message"]), scenario)
                found.append(
                    OpenTold(run=path, step=step, waits_for=each["for"], message=each["message"], remedy=remedy)
                )
    return found


def _remedy(waits_for: str, place: str, said: str, scenario: Scenario) -> str:
    match waits_for:
        case WaitingFor.APPROVAL:
            name = place or WHOLE_RUN
            which = f"{name!r} in " if scenario.fields else ""
            return f"suppose a decision: {which}{scenario.named(APPROVE, name)} or {scenario.named(REJECT, name)}"
        case WaitingFor.SIGNAL | WaitingFor.EVENT:
            return f"suppose that it comes: {scenario.named(SIGNALS, said, 'JSON')}"
        case _:
            return f"nothing here can be supposed to move it: {said}"


def _supposed(plans: Mapping[str, Plan], steps: Sequence[StepTold], scenario: Scenario) -> list[str]:
    """List what this prediction rests on beyond the document."""
    said: list[str] = []
    made_up = [step.run + step.step for step in steps if step.made_up and step.kind != GATE]
    if made_up:
        said.append(
            f"the results of {', '.join(made_up)} are made up from their schemas "
            f"({scenario.named(STUBS, 'STEP', 'JSON')} says others)"
        )
    gates = [step.run + step.step for step in steps if step.made_up and step.kind == GATE]
    if gates:
        said.append(
            f"the gates {', '.join(gates)} pass: what they would judge is not there "
            f"({scenario.named(FAIL, 'STEP')} says otherwise)"
        )
    connected = sorted({each for plan in plans.values() for each in _connections(plan)})
    if connected:
        said.append(f"connected is: {', '.join(connected)}")
    said += [
        f"the precondition of {path}{step.id} holds: {codec.dumps(step.precondition).decode()}"
        for path, plan in plans.items()
        for step in plan.steps
        if step.precondition is not None
    ]
    if any(plan.automation == Automation.HUMAN_APPROVAL for plan in plans.values()):
        said.append("somebody starts the run, and at once")
    if scenario.approved is None and any(step.kind == "approval" for step in steps):
        said.append(f"people agree to what nobody was said to reject ({scenario.named(REJECT, 'STEP')}), and at once")
    return said
