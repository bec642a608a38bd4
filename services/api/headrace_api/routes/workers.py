"""Workers: who lives, how work stands, and what a person may ask of a worker. Nothing of this is in the database."""

import asyncio
from typing import Any, Final, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from headrace import codec, errors
from headrace.clock import mint
from headrace.ids import REQUEST
from headrace.vocabulary import LOG_CATALOGUE, LOG_RUNS, RESCUE_SILENT_S, RunStatus
from headrace.wire import AskWorker, Beat, DrainWorker, RescueWorker
from headrace_api import views
from headrace_api.answers import answer
from headrace_api.asking import Asked, Asking, says
from headrace_api.bodies import Switch
from headrace_api.explaining import not_served
from headrace_api.lacking import lacking
from headrace_api.performing import Performed
from headrace_api.presence import Presence, Seen
from headrace_api.worker_shapes import ActedOn, CleanedUp, Worker, Workers, WorkersHealth, totals

router = APIRouter(tags=["workers"])
ANSWER_S: Final = 3.0
"""How long a worker has to answer: more than a beat's interval."""
RETRY_AFTER_S: Final = 30
"""Asking sooner is of no use: by then it is rescued, back, or forgotten."""
RATE_DIGITS: Final = 4
MS_DIGITS: Final = 1


class WorkerAction(BaseModel):
    """What to do with a worker; `force` rescues one that still beats."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["drain", "resume", "health_check", "rescue"]
    force: Switch = False


class WorkersAction(BaseModel):
    """What to do with all workers."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["cleanup"]


async def _numbers(asked: Asking, shown: list[dict[str, Any]]) -> dict[str, Any]:
    own = {"workspace": asked.workspace}
    added = totals(shown)
    judged = added["done"] + added["failed"]
    running = await asked.desk.log.count("runs", {**own, "status": RunStatus.RUNNING.value})
    queued = await asked.desk.log.count("runs", {**own, "status": RunStatus.QUEUED.value})
    performed = Performed(asked.desk.presence)
    begun = await asked.desk.log.count("runs", {**own, **performed.queued}) if queued and performed.since else 0
    return {
        "workers_active": asked.desk.presence.active(),
        "active_runs": running + begun,
        "queued_runs": max(0, queued - begun),
        "totals": added,
        "failure_rate": round(added["failed"] / judged, RATE_DIGITS) if judged else None,
    }


@router.get("/workers", name="list_workers", responses=says(Workers))
async def list_workers(asked: Asked) -> Response:
    """List the workers heard of in the last 120 s; `workers_active` is false 61 s after the last sign of life."""
    shown = asked.desk.presence.workers(asked.workspace)
    return answer({"items": shown, "next_cursor": None, **await _numbers(asked, shown)})


@router.get("/workers/health", name="workers_health", responses=says(WorkersHealth))
async def workers_health(asked: Asked) -> Response:
    """Say whether work can be done, pool by pool, and what an operator should look at."""
    presence = asked.desk.presence
    shown = presence.workers(asked.workspace)
    numbers, problems = await _numbers(asked, shown), presence.problems()
    if not numbers["workers_active"]:
        problems.append("no worker lives: runs stay queued until one joins")
    problems.extend(f"worker {each['id']} is stale" for each in shown if each["status"] == "stale")
    waited_for = await lacking(asked)
    known = {pool for each in shown for pool in each["pools"]}.union(presence.missed(), waited_for)
    pools = {pool: _pool(presence, pool) for pool in sorted(known)}
    for pool, run_id in sorted(waited_for.items()):
        message, remedy = not_served(presence, pool)
        problems.append(f"{message}, and run {run_id} waits for it: {remedy}")
    if numbers["workers_active"]:
        problems.extend(
            f"no worker takes work of the pool {pool!r} since {each['last_served_at']}: start one; or, if none shall come "
            "back, `headrace workers cleanup`"
            for pool, each in pools.items()
            if not each["workers"] and pool not in waited_for
        )
    status = "down" if not numbers["workers_active"] else "degraded" if problems else "healthy"
    return answer({"status": status, "pools": pools, "problems": problems, **numbers})


def _pool(presence: Presence, pool: str) -> dict[str, Any]:
    taking = presence.serving(pool)
    served_at = presence.pool_served_at(pool)
    return {
        "workers": len(taking),
        "slots": sum(seen.beat.slots for seen in taking),
        "holding": sum(len(seen.beat.holding) for seen in taking),
        "last_served_at": views.at(served_at),
    }


@router.get("/workers/{worker_id}", name="get_worker", responses=says(Worker))
async def get_worker(asked: Asked, worker_id: str) -> Response:
    """Show a worker."""
    return answer(asked.desk.presence.view(_known(asked, worker_id), asked.workspace))


@router.post("/workers", name="act_on_workers", responses=says(CleanedUp))
async def act_on_workers(asked: Asked, body: WorkersAction) -> Response:
    """Forget the workers that are stale, and the pools that nobody serves any more, here and everywhere.

    They are shown no more, and come back with a beat.
    """
    presence = asked.desk.presence
    stale = [seen.beat.worker for seen in presence.known() if presence.stale(seen)]
    pools = presence.missed()
    presence.forget(stale, pools)
    if stale or pools:
        asked.desk.bus.publish_presence(presence.forgetting(stale, pools))
    return answer({"action": body.action, "forgotten": stale, "pools": pools})


@router.post("/workers/{worker_id}", name="act_on_worker", responses=says(ActedOn))
async def act_on_worker(asked: Asked, worker_id: str, body: WorkerAction) -> Response:
    """Act on a worker.

    `drain`: it takes no more work, gives back what it has not begun, finishes the rest, and lives on; `resume` lets it
    take work again. `health_check`: it beats now, which gives its latency and what it holds; 503 when it does not.
    `rescue`: it is taken for dead, its attempts are lost and taken up by others; 409 while it beats, unless forced.
    """
    seen = _known(asked, worker_id)
    match body.action:
        case "health_check":
            return await _health_check(asked, seen)
        case "rescue":
            return await _rescue(asked, seen, force=body.force)
        case "drain" | "resume":
            return await _drain(asked, seen, body.action)


def _known(asked: Asking, worker_id: str) -> Seen:
    seen = asked.desk.presence.worker(worker_id)
    if seen is None:
        message = f"no worker {worker_id!r} was heard of in the last 120 s"
        raise errors.NotFoundError(message)
    return seen


async def _ask(asked: Asking, seen: Seen, command: AskWorker | DrainWorker, answers: Any) -> tuple[Seen, float]:
    """Let an owner pass a word on to a worker, and wait for the beat that answers; gives it and how long that took, in ms.

    Raises UnavailableError with the status `stale` when the worker does not answer in time.
    """
    desk, worker = asked.desk, seen.beat.worker
    with desk.presence.expecting(lambda beat: beat.worker == worker and answers(beat)) as expected:
        began = desk.clock.monotonic()
        try:
            await desk.commander.send_to(LOG_CATALOGUE, 0, command, asked.caller)
            async with asyncio.timeout(ANSWER_S):
                return await expected, (desk.clock.monotonic() - began) * 1_000
        except (TimeoutError, errors.NotFoundError) as problem:
            message = f"worker {worker} did not answer within {ANSWER_S:g} s; last heard {views.at(seen.at)}"
            details = {"status": "stale", "last_seen_at": views.at(seen.at), "retry_after_s": RETRY_AFTER_S}
            raise errors.UnavailableError(message, details=details) from problem


async def _health_check(asked: Asking, seen: Seen) -> Response:
    nonce = mint(asked.desk.clock, REQUEST)
    command = AskWorker(worker=seen.beat.worker, nonce=nonce)
    heard, latency_ms = await _ask(asked, seen, command, lambda beat: beat.answers == nonce)
    return _acted(asked, heard, "health_check", latency_ms=round(latency_ms, MS_DIGITS))


async def _drain(asked: Asking, seen: Seen, action: str) -> Response:
    resume = action == "resume"

    def turned(beat: Beat) -> bool:
        return beat.draining != resume

    command = DrainWorker(worker=seen.beat.worker, resume=resume)
    heard, _ = await _ask(asked, seen, command, turned)
    return _acted(asked, heard, action)


async def _rescue(asked: Asking, seen: Seen, *, force: bool) -> Response:
    worker, desk = seen.beat.worker, asked.desk
    silent_s = desk.presence.silent_s(worker) or 0.0
    if silent_s < RESCUE_SILENT_S and not force:
        message = f"worker {worker} lives: it was heard {silent_s:.1f} s ago; with `force` its attempts are given up all the same"
        raise errors.ConflictError(message, details={"silent_s": round(silent_s, 1)})
    command = RescueWorker(worker=worker, forced=force)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_rescued(asked, partition, command))
            for partition in range(desk.commander.partitions[LOG_RUNS])
        ]
    outcomes = [task.result() for task in tasks]
    for outcome in outcomes:
        if isinstance(outcome, errors.HeadraceError):
            raise outcome
    lost = sum(outcome for outcome in outcomes if isinstance(outcome, int))
    return _acted(asked, seen, "rescue", lost_attempts=lost)


async def _rescued(asked: Asking, partition: int, command: RescueWorker) -> int | errors.HeadraceError:
    """Let the owner of a partition give up what the worker holds of it; gives how many attempts, or the refusal."""
    try:
        reply = await asked.desk.commander.send_to(LOG_RUNS, partition, command, asked.caller)
    except errors.HeadraceError as problem:
        return problem
    return int(codec.loads(reply.body)["lost"])


def _acted(asked: Asking, seen: Seen, action: str, **more: Any) -> Response:
    shown = asked.desk.presence.view(seen, asked.workspace)
    return answer({"id": seen.beat.worker, "action": action, "worker": shown, **more})
