"""Runs: create, list, show, act on, and what came of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from headrace import codec, errors
from headrace.events import registry
from headrace.events.runs import RunQueued
from headrace.messages import CreateRun
from headrace.plans.fusion import fused
from headrace.plans.model import parse
from headrace.vocabulary import LOG_RUNS, PAGE_MAX, RUN_FINAL, RUN_STATUS_ALIASES, RunStatus
from headrace_api import cursors, families, performing, shapes, starting, views
from headrace_api.answers import answer
from headrace_api.asking import Asked, Asking, Paged, says
from headrace_api.bodies import LABELS_MAX, RunBody
from headrace_api.explaining import explain
from headrace_api.flowing import flow_row, flows_of

router = APIRouter(tags=["runs"])


@router.post("/runs", name="create_run", status_code=202, responses=says(shapes.WholeRun, 202, [200]))
async def create_run(asked: Asked, body: RunBody) -> Response:
    """Create a run. It is recorded before this answers 202; `Prefer: wait=30` waits for its end and answers 200."""
    command = starting.command(body, await starting.source(asked, body))
    return await created(asked, command, newest=body.newest)


async def created(asked: Asking, command: CreateRun, *, newest: bool = False) -> Response:
    """Create a run and answer with it, waiting for its end when the caller prefers to; `newest` as in `create`."""
    if not asked.wait_s:
        told = await starting.create(asked, command, newest=newest)
        headers = {"Location": f"/api/runs/{told['id']}"}
        # What was asked for was queued, whatever has happened since (row 1); a repeat under the key says the same.
        row = starting.begun(command, told) or await run_row(asked, told["id"])
        fresh = {"status": told["status"], "waiting_for": None, "workers_active": told["workers_active"]}
        return answer({**views.run_whole({**row, "started_at": None}, []), **fresh}, 202, headers)
    row, steps = await starting.create_and_wait(asked, command, asked.wait_s, newest=newest)
    headers = {"Location": f"/api/runs/{row['id']}", "Preference-Applied": f"wait={asked.wait_s:g}"}
    return answer(views.run_whole(row, steps), 200 if row["status"] in RUN_FINAL else 202, headers)


@router.get("/runs", name="list_runs", responses=says(shapes.Page[shapes.Run]))
async def list_runs(
    asked: Asked,
    paged: Paged,
    status: Annotated[list[str] | None, Query(description="Statuses; older spellings in any case are read")] = None,
    workflow: str | None = None,
    subject: str | None = None,
    stage: str | None = None,
    label: Annotated[
        list[str] | None, Query(description="NAME=VALUE; again for more, all of which hold", max_length=LABELS_MAX)
    ] = None,
    plan_digest: str | None = None,
    retry_of: str | None = None,
    parent: Annotated[str | None, Query(description="Only the children of this run")] = None,
) -> Response:
    """List runs, the newest first."""
    where: dict[str, Any] = {
        "workflow": workflow,
        "subject": subject,
        "stage": stage,
        "labels": labels(label),
        "plan_digest": plan_digest,
        "retry_of": retry_of,
        "status": statuses(status),
    }
    given = {name: value for name, value in where.items() if value}
    if parent is not None:
        return await families.page(asked, paged, parent, given)
    after = paged.cursor and cursors.by_id("runs", paged.cursor)
    performed, where = performing.Performed(asked.desk.presence), {"workspace": asked.workspace, **given}
    rows = await performed.rows(asked.desk.log, where, after=after, limit=paged.limit + 1)
    return answer(views.page([{**views.run(row), views.AFTER: row["id"]} for row in rows], paged.limit))


def labels(given: list[str] | None) -> dict[str, str]:
    """Read labels as they are looked for; raises ValidationError for one without a value."""
    found: dict[str, str] = {}
    for each in given or []:
        name, equals, value = each.partition("=")
        if not equals or found.setdefault(name, value) != value:
            why = f"is another value than {found[name]!r}" if equals else "must be NAME=VALUE"
            message = f"label: {each!r} {why}"
            raise errors.ValidationError(message, details={"field": "label"})
    return found


def statuses(given: list[str] | None, field: str = "status") -> list[str]:
    """Read statuses in any case and older spellings; raises ValidationError naming the known ones and the `field`."""
    found = []
    for text in (part.strip() for each in given or [] for part in each.split(",")):
        word = text.lower().replace("-", "_")
        word = RUN_STATUS_ALIASES.get(word, word)
        if word not in set(RunStatus):
            message = f"unknown status {text!r}; known are: {', '.join(RunStatus)}"
            raise errors.ValidationError(message, details={"field": field})
        found.append(word)
    return found


async def run_row(asked: Asking, run_id: str) -> dict[str, Any]:
    """Read a run of the caller's workspace; raises NotFoundError, which says when it was purged or archived."""
    return await asked.run(run_id)


@router.get("/runs/{run_id}", name="get_run", responses=says(shapes.WholeRun))
async def get_run(asked: Asked, run_id: str) -> Response:
    """Show a run with its steps: `pending` before they begin, `running` while a worker says that it performs them."""
    row = await run_row(asked, run_id)
    plan = await asked.desk.plan(row["plan_digest"])
    steps = performing.with_performed(await starting.steps_of(asked, run_id), asked.desk.presence, run_id)
    whole = views.run_whole(row, views.with_pending(steps, plan, run_over=row["status"] in RUN_FINAL))
    if whole["inputs"] is None:
        whole["inputs"] = (await queued(asked, run_id))[1]
    again = await asked.desk.log.rows("runs", {"workspace": asked.workspace, "retry_of": run_id}, limit=PAGE_MAX)
    whole["parent"] = await families.parent(asked, row)
    whole["children"], whole["children_total"] = await families.children(asked, run_id)
    performed = performing.Performed(asked.desk.presence)
    whole["retried_by"] = [views.lineage(performed.shown(each)) for each in again]
    return answer(whole)


async def queued(asked: Asking, run_id: str) -> tuple[RunQueued, Any]:
    """Read how a run began, with its inputs."""
    first = await asked.desk.log.stream(LOG_RUNS, run_id, limit=1)
    event = registry.read(first[0]) if first else None
    if not isinstance(event, RunQueued):
        message = f"run {run_id} has no beginning in the log"
        raise errors.NotFoundError(message)
    return event, codec.loads(event.inputs)


@router.get("/runs/{run_id}/result", name="get_result", responses=says(shapes.Result))
async def get_result(asked: Asked, run_id: str) -> Response:
    """Give the result of a finished run; 409 while it is under way."""
    row = await run_row(asked, run_id)
    if row["status"] not in RUN_FINAL:
        message = f"run {run_id} is {row['status']}: it has no result yet"
        raise errors.ConflictError(message, details={"status": row["status"], "waiting_for": row["waiting_for"]})
    return answer(await starting.result(asked, row))


@router.get("/runs/{run_id}/plan", name="get_run_plan", responses=says(shapes.RunPlan))
async def get_run_plan(asked: Asked, run_id: str) -> Response:
    """Give the plan that the run pins."""
    row = await run_row(asked, run_id)
    body = (await asked.desk.log.get_blobs([row["plan_digest"]])).get(row["plan_digest"])
    if body is None:
        message = f"the body of plan {row['plan_digest']} is not there"
        raise errors.NotFoundError(message)
    return answer({"digest": row["plan_digest"], "plan": codec.Raw(body), "fused": fused(parse(body))})


@router.get("/runs/{run_id}/explain", name="explain_run", responses=says(shapes.Explained))
async def explain_run(asked: Asked, run_id: str) -> Response:
    """Say why the run is not moving, and what would move it."""
    row = await run_row(asked, run_id)
    plan = await asked.desk.plan(row["plan_digest"])
    found = {flow_id: await flow_row(asked.desk, flow_id, asked.workspace) for flow_id in flows_of(row)}
    flows = {flow_id: known for flow_id, known in found.items() if known is not None}
    row = await families.with_statuses(asked, row)
    reasons = explain(row, await starting.steps_of(asked, run_id), plan, asked.desk.presence, flows)
    return answer({"id": run_id, "status": row["status"], "reasons": reasons})


@router.get("/runs/{run_id}/artifacts", name="list_run_artifacts", responses=says(shapes.Page[shapes.Artifact]))
async def list_run_artifacts(asked: Asked, paged: Paged, run_id: str) -> Response:
    """List what a run kept."""
    await run_row(asked, run_id)
    return await asked.page("artifacts", {"run_id": run_id}, paged, views.artifact, descending=False)
