"""Which steps of a run, and so which runs, are performed right now: no event says so of a read, its worker's beats do."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any

from headrace.log.port import ReadLog
from headrace.vocabulary import PAGE_DEFAULT, STEP_FINAL, RunStatus, StepStatus
from headrace_api.presence import Held, Presence

Row = Mapping[str, Any]


def in_hands(presence: Presence, run_id: str, steps: Sequence[Row]) -> list[Held]:
    """Give the attempts of a run that are in workers' hands, but for those of which the log knows that they are over.

    Until its next beat a worker still says that it holds what has ended, or was stopped with its step.
    """
    over = {each.get("attempt_id") for step in steps for each in (step["detail"] or {}).get("attempts") or []}
    done = {step["step"] for step in steps if step["status"] in STEP_FINAL}
    held = presence.held_for(run_id)
    return [each for each in held if each.holding.attempt_id not in over and each.holding.step not in done]


class Performed:
    """The runs that living workers perform as one answer is made: what they hold is looked through once for all of it."""

    def __init__(self, presence: Presence) -> None:
        self._presence = presence

    @cached_property
    def since(self) -> Mapping[str, int]:
        """Give since when each of these runs is performed, in milliseconds since 1970, by its id."""
        since: dict[str, int] = {}
        for held in self._presence.held():
            if held.holding.begun and not self._presence.silent(held.seen):
                run_id, begun = held.holding.run_id, held.holding.since
                since[run_id] = min(begun, since.get(run_id, begun))
        return since

    def shown(self, row: dict[str, Any]) -> dict[str, Any]:
        """Show a run as `running` that stands as `queued`, since no worker was there when it came, and is performed now."""
        if row["status"] != RunStatus.QUEUED or row["id"] not in self.since:
            return row
        return {**row, "status": RunStatus.RUNNING, "started_at": row["started_at"] or self.since[row["id"]]}

    async def rows(
        self,
        log: ReadLog,
        where: Mapping[str, Any],
        *,
        descending: bool = True,
        after: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> list[dict[str, Any]]:
        """Read runs as they are shown, in the order of their ids; fewer than `limit` are all that are left.

        The `status` of `where`, any of several, is the one that is shown: a queued run that is performed is no queued one.
        """
        wanted = set(where.get("status") or ())
        if (RunStatus.QUEUED in wanted) == (RunStatus.RUNNING in wanted):
            rows = await log.rows("runs", where, descending=descending, after=after, limit=limit)
        elif RunStatus.QUEUED in wanted:
            return await self._but_for_performed(log, where, descending=descending, after=after, limit=limit)
        else:
            rows = await log.rows("runs", where, descending=descending, after=after, limit=limit)
            if self.since:
                queued = {**where, **self.queued}
                rows += await log.rows("runs", queued, descending=descending, after=after, limit=limit)
                rows = sorted(rows, key=itemgetter("id"), reverse=descending)[:limit]
        return [self.shown(row) for row in rows]

    @property
    def queued(self) -> dict[str, Any]:
        """Give what finds the runs that stand as queued and are performed: no column is a list of none."""
        return {"status": RunStatus.QUEUED.value, "id": sorted(self.since)}

    async def _but_for_performed(
        self, log: ReadLog, where: Mapping[str, Any], *, descending: bool, after: str | None, limit: int
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            rows = await log.rows("runs", where, descending=descending, after=after, limit=limit)
            found += [row for row in rows if row["status"] != RunStatus.QUEUED or row["id"] not in self.since]
            if len(rows) < limit or len(found) >= limit:
                return found[:limit]
            after = rows[-1]["id"]


def with_performed(steps: Sequence[Row], presence: Presence, run_id: str) -> list[Row]:
    """Show as `running` those queued steps that a living worker has begun, with the worker and since when."""
    if not any(step["status"] == StepStatus.QUEUED for step in steps):
        return list(steps)
    begun: dict[str, Held] = {}
    for held in in_hands(presence, run_id, steps):
        if held.holding.begun and not presence.silent(held.seen):
            begun.setdefault(held.holding.step, held)
    return [_shown(step, begun.get(step["step"])) for step in steps]


def _shown(step: Row, held: Held | None) -> Row:
    if held is None or step["status"] != StepStatus.QUEUED:
        return step
    told = {"status": StepStatus.RUNNING, "worker": held.seen.beat.worker, "attempt_id": held.holding.attempt_id}
    if step["items_total"] is not None:  # items of a map have a worker and an attempt each
        told = {"status": StepStatus.RUNNING}
    return {**step, **told, "started_at": step["started_at"] or held.holding.since}
