"""Many at once in one request: runs to create, decisions on approvals. Each stands for itself; none undoes another.

What a batch saves is the request: a run of a batch of 100 costs the api a fifth of one that comes alone. Each item is
sent under a key of its own, the request's with the item's place, so that a batch that comes again does nothing twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Response
from pydantic import Field

from headrace import codec, errors
from headrace.messages import DecideApproval
from headrace.vocabulary import IDEMPOTENCY_KEY_CHARS_MAX, LOG_APPROVALS
from headrace_api import run_shapes, starting
from headrace_api.answers import answer, details_of
from headrace_api.asking import Asked, Asking, says
from headrace_api.bodies import Body, DecisionBody, Name, RunBody

router = APIRouter()

BATCH_MAX: Final = 1_000
"""Items of one request."""
IN_FLIGHT: Final = 128
"""Items of one request that are under way at once."""


class RunsBody(Body):
    """Runs to create, each as in `POST /runs`."""

    runs: Annotated[list[RunBody], Field(min_length=1, max_length=BATCH_MAX)]


class NamedDecision(DecisionBody):
    """A decision, and on which approval."""

    approval_id: Name


class DecisionsBody(Body):
    """Decisions, each on exactly what its `digest` names."""

    decisions: Annotated[list[NamedDecision], Field(min_length=1, max_length=BATCH_MAX)]


class ItemRefused(run_shapes.Shape):
    """Why an item was refused; `type` as in the error envelope."""

    type: str
    message: str
    details: dict[str, Any]


class CreatedRun(run_shapes.Shape):
    """A run that was created, or was there under its key, or why there is none."""

    id: str | None = None
    status: str | None = None
    error: ItemRefused | None = None


class CreatedRuns(run_shapes.Shape):
    """What became of each run asked for, in the order asked."""

    items: list[CreatedRun]
    created: int
    refused: int


class Decided(run_shapes.Shape):
    """A decision that is on record, or why it is not."""

    id: str
    status: Literal["recorded", "refused"]
    error: ItemRefused | None = None


class DecidedAll(run_shapes.Shape):
    """What became of each decision, in the order asked."""

    items: list[Decided]
    recorded: int
    refused: int


@router.post("/runs/batch", name="create_runs", tags=["runs"], status_code=202, responses=says(CreatedRuns, 202))
async def create_runs(asked: Asked, body: RunsBody) -> Response:
    """Create up to 1,000 runs. Each that is answered with an id is recorded; one that is refused says why, alone."""
    known = await _sources(asked, body.runs)

    async def create(own: Asking, wanted: RunBody) -> dict[str, Any]:
        source = await starting.source(own, wanted) if wanted.spec is not None else known[_named(wanted)]
        if isinstance(source, errors.HeadraceError):
            raise source
        told = await starting.create(own, starting.command(wanted, source), newest=wanted.newest)
        return {"id": told["id"], "status": told["status"]}

    items = await _each(asked, body.runs, create)
    created = sum("error" not in item for item in items)
    return answer({"items": items, "created": created, "refused": len(items) - created}, 202)


@router.post("/approvals/batch", name="decide_approvals", tags=["approvals"], responses=says(DecidedAll))
async def decide_approvals(asked: Asked, body: DecisionsBody) -> Response:
    """Approve or reject up to 1,000 questions, each by the digest of what was shown."""
    named = sorted({one.approval_id for one in body.decisions})
    where = {"workspace": asked.workspace, "id": named}
    known = {row["id"] for row in await asked.desk.log.rows("approvals", where, limit=len(named))}

    async def decide(own: Asking, wanted: NamedDecision) -> dict[str, Any]:
        if wanted.approval_id not in known:
            raise await own.without("approval", wanted.approval_id)
        command = DecideApproval(action=wanted.action, digest=wanted.digest, reason=wanted.reason)
        await own.send(LOG_APPROVALS, command, stream_id=wanted.approval_id)
        return {"status": "recorded"}

    outcomes = await _each(asked, body.decisions, decide)
    items = [
        {"id": wanted.approval_id, "status": "refused", **outcome}
        for wanted, outcome in zip(body.decisions, outcomes, strict=True)
    ]
    recorded = sum(item["status"] == "recorded" for item in items)
    return answer({"items": items, "recorded": recorded, "refused": len(items) - recorded})


Named = tuple[str | None, str | None, int | None, str | None]


def _named(wanted: RunBody) -> Named:
    return wanted.plan_digest, wanted.workflow, wanted.workflow_version, wanted.workspace


async def _sources(asked: Asking, runs: Sequence[RunBody]) -> dict[Named, starting.Source | errors.HeadraceError]:
    """Find each plan that is named once, however many runs name it; gives why there is none where there is none."""
    found: dict[Named, starting.Source | errors.HeadraceError] = {}
    for wanted in runs:
        if wanted.spec is None and _named(wanted) not in found:
            try:
                found[_named(wanted)] = await starting.source(asked, wanted)
            except errors.HeadraceError as refusal:
                found[_named(wanted)] = refusal
    return found


async def _each[Item](
    asked: Asking, wanted: Sequence[Item], act: Callable[[Asking, Item], Awaitable[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Act on each item under a key of its own; gives each outcome, or the error that it met, in order."""
    found: list[dict[str, Any]] = [{} for _ in wanted]
    roomy = len(asked.key) <= IDEMPOTENCY_KEY_CHARS_MAX - len(f"/{BATCH_MAX}")
    stem = asked.key if roomy else codec.sha256(asked.key.encode())
    left = iter(enumerate(wanted))

    async def some() -> None:
        for place, item in left:
            try:
                found[place] = await act(msgspec.structs.replace(asked, key=f"{stem}/{place}"), item)
            except errors.HeadraceError as refusal:
                found[place] = {
                    "error": {"type": refusal.type, "message": refusal.message, "details": details_of(refusal)}
                }

    async with asyncio.TaskGroup() as group:
        for _ in range(min(IN_FLIGHT, len(wanted))):
            group.create_task(some())
    return found
