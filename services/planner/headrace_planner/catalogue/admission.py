"""How many runs of a workspace may be unfinished at once: beyond that a create is refused for now.

The runs are counted in the projection, at most once in COUNT_KEPT_S for each workspace; in between, what this process
has let in since is added. While one create counts, the others go by the count before, so that a create costs no query
of its own. The limit is therefore kept but for what other planners let in within that time, and what is let in while
the count is under way; it protects the database and the others, it is no exact number.
"""

from typing import Final

import msgspec

from headrace.clock import Clock
from headrace.errors import RateLimitedError
from headrace.log.port import ReadLog
from headrace.vocabulary import UNFINISHED_RUNS_MAX, RunStatus

COUNT_KEPT_S: Final = 1.0
RETRY_AFTER_S: Final = 5
UNFINISHED: Final = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING)
SETTING: Final = "HEADRACE_UNFINISHED_RUNS_MAX"
WORKSPACES_KEPT_MAX: Final = 10_000


class Counted(msgspec.Struct):
    """What is known of a workspace: its unfinished runs at a time (monotonic seconds), and those let in since."""

    at: float
    runs: int
    since: int = 0
    counting: bool = False


class Admission:
    """Lets creates in while their workspace has room."""

    def __init__(self, log: ReadLog, clock: Clock, limit: int = UNFINISHED_RUNS_MAX) -> None:
        self._log, self._clock, self._limit = log, clock, limit
        self._known: dict[str, Counted] = {}

    async def admit(self, workspace: str) -> None:
        """Let one more run of a workspace in; raises RateLimitedError when it has too many that are not finished."""
        self._let_in(workspace, await self._counted(workspace))

    def at_once(self, workspace: str) -> bool:
        """Let one more run in if that needs no counting; raises as `admit`."""
        known = self._fresh(workspace)
        if known is not None:
            self._let_in(workspace, known)
        return known is not None

    def _let_in(self, workspace: str, known: Counted) -> None:
        if known.runs + known.since >= self._limit:
            message = (
                f"workspace {workspace!r} has {known.runs + known.since} unfinished runs, and at most {self._limit} are "
                f"allowed ({SETTING} of the planner): try again when some are over, or cancel what is not needed"
            )
            details = {"limit": self._limit, "unfinished": known.runs + known.since, "retry_after_s": RETRY_AFTER_S}
            raise RateLimitedError(message, details=details)
        known.since += 1

    def _fresh(self, workspace: str) -> Counted | None:
        known = self._known.get(workspace)
        fresh = known is not None and (known.counting or self._clock.monotonic() - known.at < COUNT_KEPT_S)
        return known if fresh else None

    async def _counted(self, workspace: str) -> Counted:
        known = self._fresh(workspace)
        if known is not None:
            return known
        known = self._known.get(workspace)
        if known is None:
            if len(self._known) >= WORKSPACES_KEPT_MAX:
                self._known.clear()
            known = self._known[workspace] = Counted(self._clock.monotonic(), 0)
        known.counting = True
        before = known.since
        try:
            runs = await self._log.count("runs", {"workspace": workspace, "status": [str(one) for one in UNFINISHED]})
        finally:
            known.counting = False
        known.runs, known.since = runs, known.since - before
        known.at = self._clock.monotonic()
        return known
