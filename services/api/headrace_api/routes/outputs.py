"""The whole output of a step, whatever its size: put together from the run's events, a map's item by item."""

from collections.abc import AsyncIterator
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from headrace import errors
from headrace.codec import NULL, Raw
from headrace.events import registry
from headrace.events.runs import StepsSucceeded, StepSucceeded
from headrace.events.steering import StepReused
from headrace.vocabulary import LOG_RUNS, StepStatus
from headrace_api.asking import Asked, Asking, raw_answers
from headrace_api.routes.runs import run_row

router = APIRouter(tags=["runs"])
JSON: Final = "application/json"
EVENTS_READ: Final = 1_000
GIVES: Final = frozenset(kind.type_name() for kind in (StepSucceeded, StepsSucceeded, StepReused))
Part = Raw | str
"""An output as it was recorded, or the digest of the body that holds it."""


@router.get("/runs/{run_id}/steps/{step}/output", name="get_step_output", responses=raw_answers(JSON))
async def get_step_output(asked: Asked, run_id: str, step: str) -> Response:
    """Download a step's output whole, as JSON; of a map the list of its items' outputs. 409 until it has succeeded."""
    await run_row(asked, run_id)
    row = await asked.row("steps", {"run_id": run_id, "step": step}, f"output of step {step!r} in run {run_id}")
    if row["status"] != StepStatus.SUCCEEDED:
        message = f"step {step!r} is {row['status']}: it has no output"
        raise errors.ConflictError(message, details={"step": step, "status": row["status"]})
    parts = await _parts(asked, run_id, step)
    headers = {"Content-Disposition": f'attachment; filename="{step}.json"', "Cache-Control": "private"}
    if row["items_total"] is None:
        return Response(await _body(asked, parts.get(None, NULL)), media_type=JSON, headers=headers)
    items = [parts.get(index, NULL) for index in range(row["items_total"])]
    return StreamingResponse(_list(asked, items), media_type=JSON, headers=headers)


async def _parts(asked: Asking, run_id: str, step: str) -> dict[int | None, Part]:
    """Collect what the step's successes gave, by item; None is the step itself."""
    found: dict[int | None, Part] = {}
    after = 0
    while read := await asked.desk.log.stream(LOG_RUNS, run_id, after, EVENTS_READ):
        for each in read:
            for event in registry.read(each).parts if each.type in GIVES else ():
                if isinstance(event, StepSucceeded | StepReused) and event.step == step:
                    index = event.index if isinstance(event, StepSucceeded) else None
                    found[index] = event.blob.digest if event.blob else event.output
        after = read[-1].version
    return found


async def _list(asked: Asking, items: list[Part]) -> AsyncIterator[bytes]:
    yield b"["
    for place, part in enumerate(items):
        yield (b"," if place else b"") + await _body(asked, part)
    yield b"]"


async def _body(asked: Asking, part: Part) -> bytes:
    if not isinstance(part, str):
        return bytes(part)
    await asked.desk.check_own(part, asked.workspace)
    body = (await asked.desk.log.get_blobs([part])).get(part)
    if body is None:
        message = f"there is no body {part}"
        raise errors.NotFoundError(message)
    return body
