"""Ends that owners tell this api of: who waits for a run's end need not read what its owner has just written.

What is told is exactly the rows that stand in the log, in the order of the log's own tables. Whoever is not told, since
the message was lost or the owner is another one by now, is woken by the feed and reads.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from headrace import telemetry
from headrace.clock import Clock
from headrace.log import rows as projection
from headrace.log.tables import LAYOUT
from headrace.messages import Ended
from headrace_api.feed import ENDS, Watcher

_log = logging.getLogger(__name__)
_decoder = msgspec.json.Decoder(Ended)

Row = dict[str, Any]
RUNS: Final = "runs"
STEPS: Final = "steps"


class Ending:
    """One run's end that is waited for: `to` goes with the command that creates it, `watcher` is woken when it is told."""

    def __init__(self, to: str) -> None:
        self.to = to
        self.watcher = Watcher(ENDS)
        self._told: Ended | None = None

    def tell(self, told: Ended) -> None:
        """Take what the owner says, and wake the waiter."""
        self._told = told
        self.watcher.rouse()

    @property
    def told(self) -> bool:
        """Tell whether the owner has spoken."""
        return self._told is not None

    def rows(self, run_id: str, workspace: str) -> tuple[Row, list[Row]] | None:
        """Give the rows of the run and of its steps as they stand in the log; None when they have to be read."""
        told = self._told
        if told is None or told.stream_id != run_id or len(told.rows.get(RUNS, ())) != 1:
            return None
        row = projection.shown(RUNS, told.rows[RUNS][0])
        if row["workspace"] != workspace:
            return None
        return row, [projection.shown(STEPS, values) for values in told.rows.get(STEPS, ())]


class Endings:
    """All ends that this api waits for. `place` is where it is told of them, once somebody listens there."""

    def __init__(self, clock: Clock) -> None:
        self.place = clock.entropy().hex()
        self.listening = False
        self._count = 0
        self._expected: dict[str, Ending] = {}

    @contextmanager
    def expect(self) -> Iterator[Ending]:
        """Wait for an end as long as the block lasts."""
        self._count += 1
        ending = Ending(f"{self.place}.{self._count}" if self.listening else "")
        self._expected[ending.to] = ending
        try:
            yield ending
        finally:
            self._expected.pop(ending.to, None)

    def deliver(self, data: bytes) -> None:
        """Take what an owner says of an end."""
        try:
            told = _decoder.decode(data)
        except (msgspec.ValidationError, msgspec.DecodeError) as problem:
            telemetry.message_refused("end", "malformed")
            _log.warning("a message of an end cannot be read: %s", problem)
            return
        ending = self._expected.get(told.to) if told.layout == LAYOUT else None
        if ending is not None:
            ending.tell(told)
