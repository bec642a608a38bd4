"""Runs on their way: which plan is meant, the command that creates the run, and waiting for its end by the feed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from headrace import codec, errors, ids
from headrace.events import registry
from headrace.events.catalogue import WorkflowApplied
from headrace.events.runs import RunCancelled, RunFailed, RunSucceeded
from headrace.log.port import Recorded
from headrace.messages import CreateRun, RecordPlan
from headrace.vocabulary import LOG_CATALOGUE, LOG_RUNS, RUN_FINAL, RunStatus
from headrace_api import views
from headrace_api.asking import Asking
from headrace_api.bodies import RunBody
from headrace_api.endings import Ending
from headrace_api.feed import REPAIR_S

VERSIONS_READ: Final = 100
"""Events of a workflow that are read at once: each may hold a document."""
STEPS_PAGE: Final = 500
NEW_MS: Final = 1_000
"""A run this old or younger was created by the request that is being answered, or by a repeat of it just now."""
SHOWN_BYTES_MAX: Final = 4_096
"""Inputs and triggers over this are not shown with a run, as in its row."""
NOTHING_YET: Final[dict[str, Any]] = {
    "status": str(RunStatus.QUEUED),
    "waiting_for": None,
    "error_type": None,
    "cancel_requested": False,
    "started_at": None,
    "finished_at": None,
    "steps_done": 0,
}
"""What the row of a run that was only queued says."""
ENDS: Final = frozenset(kind.type_name() for kind in (RunSucceeded, RunFailed, RunCancelled))
ENDING_EVENTS: Final = 50
"""Events of a run that are read at once to find the one that ended it, from the last one back."""


class Source(msgspec.Struct, frozen=True):
    """Which plan a run is of, and by which version of which workflow."""

    plan_digest: str
    workflow: str | None = None
    version: int | None = None


async def source(asking: Asking, body: RunBody) -> Source:
    """Find the plan that a request means, compiling it first when it brings a spec."""
    if body.workspace is not None and body.workspace != asking.workspace:
        message = f"there is no workspace {body.workspace!r} for this token"
        raise errors.NotFoundError(message)
    if body.plan_digest is not None:
        return Source(body.plan_digest)
    if body.spec is not None:
        return Source((await record(asking, body.spec))["digest"])
    assert body.workflow is not None
    return await of_workflow(asking, body.workflow, body.workflow_version)


async def of_workflow(asking: Asking, name: str, version: int | None = None) -> Source:
    """Find a workflow's plan; raises NotFoundError, and ConflictError when it no longer compiles."""
    row = await workflow_row(asking, name)
    if version is not None and version != row["version"]:
        if 0 < version < row["version"]:
            async for _, told in versions(asking, row["id"], version):
                if told.version == version:
                    return Source(told.plan_digest, row["name"], version)
        message = f"workflow {name!r} has no version {version}; the newest is {row['version']}"
        raise errors.NotFoundError(message)
    if row["problems"] or not row["plan_digest"]:
        message = f"workflow {name!r} does not compile any more since a tool it uses changed: {row['problems']}"
        raise errors.ConflictError(message, details={"problems": row["problems"]})
    return Source(row["plan_digest"], row["name"], row["version"])


async def workflow_row(asking: Asking, name: str) -> dict[str, Any]:
    """Read a workflow by its name or its id."""
    stream = name if name.startswith(f"{ids.WORKFLOW}_") else ids.definition(ids.WORKFLOW, asking.workspace, name)
    return await asking.row("workflows", {"id": stream}, f"workflow {name!r}")


async def versions(asking: Asking, stream_id: str, first: int) -> AsyncIterator[tuple[int, WorkflowApplied]]:
    """Read a workflow's versions from the `first` on from its own events, the oldest first, with the time of each."""
    after = max(first - 1, 0)  # each version is an event: none stands before as many of them
    while read := await asking.desk.log.stream(LOG_CATALOGUE, stream_id, after, VERSIONS_READ):
        for recorded in read:
            event = registry.read(recorded) if recorded.type == WorkflowApplied.type_name() else None
            if isinstance(event, WorkflowApplied) and event.version >= first:
                yield recorded.at, event
        after = read[-1].version


async def keep_plan(asking: Asking, digest: str) -> None:
    """Make a plan of its own of a workflow's plan, which is on record as a body first. Again: nothing changes."""
    await asking.send(LOG_CATALOGUE, RecordPlan(spec=codec.NULL, plan_digest=digest), keyed=False)


async def record(asking: Asking, spec: dict[str, Any] | str) -> dict[str, Any]:
    """Compile a spec in the planner and give what it recorded: at least the plan's `digest`."""
    # Text goes as it is: the planner then names line and column of each problem. The same document meets the same plan, so this needs no key of its own.
    reply = await asking.send(LOG_CATALOGUE, RecordPlan(spec=codec.raw(spec)), keyed=False)
    body: dict[str, Any] = codec.loads(reply.body)
    return body


def command(body: RunBody, found: Source) -> CreateRun:
    """Make the command that creates the run which a request asks for."""
    labels = {**body.labels, **({"triggered_by": body.triggered_by} if body.triggered_by else {})}
    return CreateRun(
        plan_digest=found.plan_digest,
        inputs=codec.raw(body.inputs),
        workflow=found.workflow,
        workflow_version=found.version,
        subject=body.subject,
        stage=body.stage,
        labels=labels,
        priority=body.priority,
    )


async def create(asking: Asking, command: CreateRun, *, end_to: str = "", newest: bool = False) -> dict[str, Any]:
    """Create a run and give its id, status and whether workers live. `end_to` is where its owner tells how it ended.

    `newest`: asked for was the workflow's newest version, which may have been another one when the request came first.
    """
    try:
        reply = await asking.send(LOG_RUNS, command, end_to=end_to)
    except errors.UnprocessableError:
        before = await _as_before(asking, command) if newest else None
        if before is None:
            raise
        reply = await asking.send(LOG_RUNS, before, end_to=end_to)
    body: dict[str, Any] = codec.loads(reply.body)
    body.setdefault("workers_active", asking.desk.presence.active())
    return body


async def _as_before(asking: Asking, command: CreateRun) -> CreateRun | None:
    """Give a command with the version of its workflow that a run under the same key is of; None when there is no other."""
    partition = ids.partition_for(asking.desk.commander.partitions[LOG_RUNS], asking.workspace, asking.key)
    place = LOG_RUNS, partition, f"{asking.workspace}/{asking.key}"
    kept = (await asking.desk.log.answers([place])).get(place)
    row = await asking.desk.own_row("runs", {"id": kept.stream_id}, asking.workspace) if kept is not None else None
    if row is None or row["workflow"] != command.workflow or row["workflow_version"] == command.workflow_version:
        return None
    return msgspec.structs.replace(command, plan_digest=row["plan_digest"], workflow_version=row["workflow_version"])


def begun(command: CreateRun, told: dict[str, Any]) -> dict[str, Any] | None:
    """Give the row of a run as it was when it was queued, from its command and its owner's answer.

    None when the answer does not say enough: an owner of before made it, and the row has to be read.
    """
    known = told.get("run")
    if known is None:
        return None
    inputs = command.inputs if "inputs" not in known else codec.raw(known["inputs"])
    return {
        **NOTHING_YET,
        **known,
        "id": told["id"],
        "workflow": command.workflow,
        "plan_digest": told["plan_digest"],
        "attempt": told["attempt"],
        "retry_of": told["retry_of"],
        "subject": command.subject,
        "stage": command.stage,
        "labels": command.labels,
        "workers_active": told["workers_active"],
        "detail": {
            "inputs": _if_small(inputs),
            "trigger": _if_small(command.trigger),
            "connections": known.get("connections"),
            "rerun_from": command.rerun_from,
        },
    }


def _if_small(value: codec.Raw) -> Any:
    return value if len(bytes(value)) <= SHOWN_BYTES_MAX else None


def is_new(asking: Asking, told: dict[str, Any]) -> bool:
    """Tell whether a run was created just now, so that its end can only be yet to come."""
    created_at = (told.get("run") or {}).get("created_at")
    return created_at is not None and 0 <= asking.desk.clock.now_ms() - created_at <= NEW_MS


async def create_and_wait(
    asking: Asking, command: CreateRun, wait_s: float, *, newest: bool = False
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Create a run and wait for its end as `until_final` does; its owner is asked to tell how it ended."""
    with asking.desk.endings.expect() as ending:
        told = await create(asking, command, end_to=ending.to, newest=newest)
        return await until_final(asking, told["id"], wait_s, ending, new=is_new(asking, told))


async def until_final(
    asking: Asking, run_id: str, wait_s: float, ending: Ending, *, new: bool = False
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Wait until a run is over, at most `wait_s`; gives its row and its steps as they then stand.

    It is woken by its owner, who tells how they stand, or by the feed, and then reads them. Those of a `new` one are not
    looked at before there is something to see.
    """
    clock, feed = asking.desk.clock, asking.desk.feed
    began = clock.monotonic()
    with feed.watch(run_id, asking.caller.actor.id, watcher=ending.watcher) as watcher:
        if new and not ending.told and not feed.ended(run_id):
            await watcher.wait(min(wait_s, REPAIR_S))
        while True:
            await asking.check_stands()
            row, steps = ending.rows(run_id, asking.workspace) or await _whole(asking, run_id)
            left = wait_s - (clock.monotonic() - began)
            if row["status"] in RUN_FINAL or left <= 0:
                return row, steps
            await watcher.wait(min(left, REPAIR_S))


async def _whole(asking: Asking, run_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read a run's row and its steps at the same time."""
    try:
        async with asyncio.TaskGroup() as group:
            row = group.create_task(asking.run(run_id))
            steps = group.create_task(steps_of(asking, run_id))
    except* errors.HeadraceError as problems:
        raise _first(problems) from None
    return row.result(), steps.result()


def _first(group: BaseExceptionGroup[errors.HeadraceError]) -> errors.HeadraceError:
    problem = group.exceptions[0]
    return _first(problem) if isinstance(problem, BaseExceptionGroup) else problem


async def steps_of(asking: Asking, run_id: str) -> list[dict[str, Any]]:
    """Read all steps of a run that have begun."""
    rows: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        read = await asking.desk.log.rows(
            "steps", {"run_id": run_id}, order="step", descending=False, after=after, limit=STEPS_PAGE
        )
        rows.extend(read)
        if len(read) < STEPS_PAGE:
            return rows
        after = read[-1]["step"]


async def ending(asking: Asking, row: dict[str, Any]) -> Recorded | None:
    """Find the event that ended a run, from its last one back: any number of late results may follow it."""
    upto = row["version"]
    while upto > 0:
        after = max(upto - ENDING_EVENTS, 0)
        read = await asking.desk.log.stream(LOG_RUNS, row["id"], after, upto - after)
        found = next((each for each in reversed(read) if each.type in ENDS), None)
        if found is not None:
            return found
        upto = after
    return None


async def result(asking: Asking, row: dict[str, Any]) -> dict[str, Any]:
    """Give the result of a finished run, whole: outputs too large for its row are read from its last events."""
    outputs = (row["detail"] or {}).get("outputs")
    if outputs is None and row["status"] == RunStatus.SUCCEEDED:
        ended = await ending(asking, row)
        outputs = codec.loads(ended.data).get("outputs") if ended is not None else None
    return views.result(row, await steps_of(asking, row["id"]), outputs)
