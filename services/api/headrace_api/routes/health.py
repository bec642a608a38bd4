"""Health, readiness, metrics, and what an operator looks at first."""

import logging
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headrace import __version__, telemetry
from headrace.bus.writes import REMEDY
from headrace.errors import UnavailableError
from headrace.ids import month_text
from headrace.vocabulary import LOG_PARTITIONS, PREVIEW_CHARS
from headrace_api import parking, shapes, views
from headrace_api.answers import answer
from headrace_api.asking import Asked, raw_answers, says
from headrace_api.desk import Desk

_log = logging.getLogger(__name__)
ID_MAX: Final = 2**63 - 1
DISMISS: Final = "`headrace doctor --dismiss ID` lets one go that was seen to"
DISMISSED_MAX: Final = 1_000
"""Messages in one request."""


class Doctor(shapes.Shape):
    """What an operator looks at first."""

    healthy: bool
    checks: dict[str, bool]
    problems: list[str]
    incarnation: str
    workers_active: bool
    partitions: list[dict[str, Any]]
    parked: list[dict[str, Any]]
    stragglers: list[dict[str, Any]]


class ParkedAction(BaseModel):
    """What to do with messages that were parked."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["dismiss"]
    parked: list[Annotated[int, Field(ge=1, le=ID_MAX)]] = Field(min_length=1, max_length=DISMISSED_MAX)


class Dismissed(shapes.Shape):
    """The parked messages that were let go: those of the asked ones that were still there."""

    dismissed: list[int]


class Health(shapes.Shape):
    """Whether a part is well."""

    status: str
    checks: dict[str, bool] = {}
    version: str = ""


router = APIRouter(tags=["health"])
public = APIRouter(tags=["health"])


async def checks(desk: Desk) -> dict[str, bool]:
    """Ask each part that the api needs; what cannot be asked is not well."""
    try:
        await desk.log.row("tokens", {"id": ""})
        database = True
    except UnavailableError:
        database = False
    return {"database": database, "bus": desk.bus.connected, "streams": not desk.bus.refusing}


@public.get("/healthz", name="healthz", responses=says(Health))
async def healthz() -> Response:
    """Say that the process lives, and which version it is."""
    return answer({"status": "ok", "checks": {}, "version": __version__})


@public.get("/readyz", name="readyz", responses=says(Health, 200, [503]))
async def readyz(request: Request) -> Response:
    """Say whether it can serve: reads need the database; without the bus only writes are refused, which this shows."""
    found = await checks(request.app.state.desk)
    status = "ready" if found["database"] and found["bus"] else "reads only" if found["database"] else "not ready"
    return answer({"status": status, "checks": found}, 200 if found["database"] else 503)


@public.get("/metrics", name="metrics", responses=raw_answers("text/plain"))
async def metrics(request: Request) -> Response:
    """Give this process's metrics, in the format that the scraper accepts."""
    body, content_type = telemetry.render(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})


@router.get("/doctor", name="doctor", responses=says(Doctor))
async def doctor(asked: Asked) -> Response:
    """Look over everything: a bus that does not answer, partitions without an owner, messages that were parked.

    Of those it shows the workspace's own, and what nobody can tell whose it is.
    Without the database there is nothing to look at: that is 503, as for every route that reads.
    """
    desk = asked.desk
    found = await checks(desk)
    partitions = await desk.log.partitions()
    parked = [
        {
            "id": each.id,
            "source": each.source,
            "stream_id": each.stream_id,
            "error": each.error,
            "at": views.at(each.at),
            "body_preview": each.body[:PREVIEW_CHARS].decode("utf-8", "replace"),
            "body_bytes": len(each.body),
        }
        for each in await parking.seen(desk, asked.workspace)
    ]
    now = desk.clock.now_ms()
    problems = [] if found["bus"] else ["bus does not answer"]
    problems.extend(f"stream {name} takes no writes: {REMEDY}" for name in desk.bus.refusing)
    problems.extend(_unowned(partitions, now))
    if not desk.presence.active():
        problems.append("no worker lives: runs stay queued until one joins")
    problems.extend(desk.presence.problems())
    if parked:
        problems.append(f"{len(parked)} messages are parked: they could not be processed, see `parked`; {DISMISS}")
    told = [{**row, "lease_until": views.at(row.get("lease_until"))} for row in partitions]
    return answer(
        {
            "healthy": not problems,
            "checks": found,
            "problems": problems,
            "incarnation": desk.log.incarnation,
            "workers_active": desk.presence.active(),
            "partitions": told,
            "parked": parked,
            "stragglers": [
                {"month": month_text(each.month), "log": each.log, "stream_id": each.stream_id, "status": each.status}
                for each in await desk.stragglers()
            ],
        }
    )


@router.post("/doctor", name="act_on_parked", responses=says(Dismissed))
async def act_on_parked(asked: Asked, body: ParkedAction) -> Response:
    """Let parked messages go that somebody has seen to: `dismiss`, by their ids. What is gone already changes nothing."""
    shown = [each.id for each in await parking.seen(asked.desk, asked.workspace, body.parked)]
    dismissed = await asked.desk.log.dismiss_parked(shown)
    _log.info("%s dismissed parked messages: %s", asked.caller.actor.name, dismissed)
    return answer({"dismissed": dismissed})


def _unowned(partitions: list[dict[str, Any]], now: int) -> list[str]:
    counts = {
        log: sum(1 for row in partitions if row["log"] == log and (row.get("lease_until") or 0) < now)
        for log in LOG_PARTITIONS
    }
    return [f"{count} partitions of {log} have no owner" for log, count in counts.items() if count]
