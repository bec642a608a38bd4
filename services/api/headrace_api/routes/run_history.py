"""What a run's history tells beside its events: one step with its attempts, and every effect on the world."""

from typing import Any, Final

from fastapi import APIRouter, Response

from headrace import errors
from headrace.events import registry
from headrace.vocabulary import LOG_RUNS, RUN_FINAL
from headrace_api import performing, shapes, streaming, views
from headrace_api.answers import answer
from headrace_api.asking import Asked, Paged, says
from headrace_api.effects import Effects, effectful
from headrace_api.routes.runs import run_row
from headrace_api.run_shapes import Effect

router = APIRouter(tags=["runs"])
EVENTS_READ: Final = 250
"""Events that are read before others have their turn."""


@router.get("/runs/{run_id}/steps/{step}", name="get_step", responses=says(shapes.Step))
async def get_step(asked: Asked, run_id: str, step: str) -> Response:
    """Show a step with its last failed attempts, each with its delay; one that has not begun is `pending`."""
    run = await run_row(asked, run_id)
    row = await asked.desk.own_row("steps", {"run_id": run_id, "step": step}, asked.workspace)
    plan = await asked.desk.plan(run["plan_digest"])
    shown = performing.with_performed([row] if row else [], asked.desk.presence, run_id)
    rows = views.with_pending(shown, plan, run_over=run["status"] in RUN_FINAL)
    found = next((each for each in rows if each["step"] == step), None)
    if found is None:
        known = ", ".join(each["step"] for each in rows)
        message = f"run {run_id} has no step {step!r}; it has: {known}"
        raise errors.NotFoundError(message)
    return answer(views.step(found))


@router.get("/runs/{run_id}/effects", name="list_effects", responses=says(shapes.Page[Effect]))
async def list_effects(asked: Asked, paged: Paged, run_id: str) -> Response:
    """List what the run did to the world, oldest first: each claimed attempt with its key, its worker and its outcome."""
    run = await run_row(asked, run_id)
    plan = await asked.desk.plan(run["plan_digest"])
    items: list[dict[str, Any]] = []
    if plan is not None and effectful(plan):
        effects, after = Effects(run_id, plan, paged.limit), streaming.version(paged.cursor)
        while not effects.complete and (read := await asked.desk.log.stream(LOG_RUNS, run_id, after, EVENTS_READ)):
            events = ((each.version, each.at, registry.read(each)) for each in read)
            effects.read(events)  # type: ignore[arg-type]  # a run's events only
            after = read[-1].version
        items = effects.listed
    return answer(views.page(items, paged.limit))
