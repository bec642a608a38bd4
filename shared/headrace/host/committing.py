"""Committing: one append for all partitions of a process at a time, and what its outcome means."""

import asyncio
import logging
from dataclasses import dataclass, field

from headrace.clock import Clock
from headrace.errors import UnavailableError
from headrace.host import metrics
from headrace.host.answers import Kept
from headrace.host.cadence import APPEND_TIMEOUT_S
from headrace.host.draft import Draft, Part
from headrace.host.tenure import Held
from headrace.log.port import DataError, Log, Parked
from headrace.waits import Limit

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of a draft: parts that stand (with the position before them), tenures that are over, or bad data.

    `kept`: nothing of it stands, since these answers are kept under keys of it.
    """

    standing: list[tuple[Part, int]] = field(default_factory=list)
    over: list[Held] = field(default_factory=list)
    refused: DataError | None = None
    kept: Kept | None = None


class Committer:
    """Writes drafts to the log."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._limit = Limit(APPEND_TIMEOUT_S)

    async def commit(self, draft: Draft) -> Outcome:
        """Append a draft. Nothing of it may leave but what the outcome says is standing."""
        outcome = Outcome()
        now = self._clock.monotonic()
        parts: list[Part] = []
        for part in draft.parts.values():
            if part.held.live(now):
                parts.append(part)
            else:
                outcome.over.append(part.held)
        if not parts:
            return outcome
        try:
            with self._limit:
                appended = await self._log.append_events([part.batch() for part in parts])
        except DataError as problem:
            outcome.refused = problem
            return outcome
        except (UnavailableError, TimeoutError):
            outcome.over.extend(part.held for part in parts)
            return outcome
        outcome.kept = appended.kept
        if appended.kept is None:
            metrics.appended(sum(len(part.events) for part in parts), self._clock.monotonic() - now)
        for part in parts:
            held = part.held
            if appended.kept is not None and held.place not in appended.stale:
                continue
            if held.place in appended.stale or held.place not in appended.positions:
                metrics.fenced(held.log)
                outcome.over.append(held)
                continue
            before, held.position = held.position, appended.positions[held.place]
            if (not part.parked or await self._park(part)) and held.live(self._clock.monotonic()):
                outcome.standing.append((part, before))
            else:
                outcome.over.append(held)
        return outcome

    async def _park(self, part: Part) -> bool:
        """Keep the messages that could not be processed; False when the log does not answer any more."""
        try:
            async with asyncio.timeout(APPEND_TIMEOUT_S):
                for parked in part.parked:
                    await self._park_one(part, parked)
        except (UnavailableError, TimeoutError):
            return False
        return True

    async def _park_one(self, part: Part, parked: Parked) -> None:
        try:
            await self._log.park(parked)
        except DataError:
            _logger.exception("a message of %s could not even be parked, and is dropped", parked.stream_id)
        else:
            metrics.parked(part.held.log)
