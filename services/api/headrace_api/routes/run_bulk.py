"""Acting on many runs at once: previewed with a count, then done in pages."""

from fastapi import APIRouter, Response

from headrace.policy import may
from headrace_api.answers import answer
from headrace_api.asking import Asked, says
from headrace_api.routes import bulk

router = APIRouter(tags=["runs"])


@router.post("/runs/bulk", name="act_on_runs", responses=says(bulk.BulkAnswer))
async def act_on_runs(asked: Asked, body: bulk.BulkBody) -> Response:
    """Cancel, retry or purge the runs that a query means.

    First with `dry_run`: a count, examples, and a `preview`. Then with that `preview`, again and again with the
    `next_cursor`, until there is none. Runs created after the preview are not touched; a page sent again does nothing
    twice.
    """
    may(asked.caller.actor, "purge" if body.action == "purge" else "run")
    return answer(await (bulk.preview(asked, body) if body.dry_run else bulk.act(asked, body)))
