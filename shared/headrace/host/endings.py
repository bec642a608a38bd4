"""Endings: who waits for a stream's end is told how it stood then, so that it need not read what was just written.

Nothing rests on it: it is in memory alone, and who is not told reads the rows when the feed speaks of the end. What is
waited for outlives a tenure: the next one may be this process's as well, and if not, EXPECTED_MAX bounds what is left.
"""

import logging
import re
from collections import OrderedDict
from typing import Final

from headrace import codec
from headrace.bus.port import Bus
from headrace.decider import Laid, MissingError
from headrace.host.calling import guarded
from headrace.host.failures import PoisonError
from headrace.host.tenure import Stream
from headrace.log.tables import LAYOUT
from headrace.messages import Ended

EXPECTED_MAX: Final = 10_000
"""Streams whose end somebody waits for; of more, the oldest are read by who waits."""
ROWS_MAX: Final = 64
BYTES_MAX: Final = 64 * 1024
"""An end that takes more is read by who waits."""
END_TO: Final = re.compile(r"([A-Za-z0-9_-]{1,64})\.[A-Za-z0-9_-]{1,64}")

_logger = logging.getLogger(__name__)


class Endings:
    """Who waits for which stream's end."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._expected: OrderedDict[str, str] = OrderedDict()

    def expect(self, stream_id: str, end_to: str) -> None:
        """Tell `end_to` of a stream's end."""
        if END_TO.fullmatch(end_to):
            self._expected[stream_id] = end_to
            while len(self._expected) > EXPECTED_MAX:
                self._expected.popitem(last=False)

    def over(self, stream: Stream, *, exact: bool) -> None:
        """Tell who waits for it that a stream is over; only if its state is `exact`ly what is committed."""
        end_to = self._expected.pop(stream.stream_id, None) if self._expected else None
        if end_to is None or not exact:
            return
        rows: dict[str, list[tuple[object, ...]]] = {}
        try:
            laid = [row for row in guarded(stream.held.room.rows, stream.state, None) if isinstance(row, Laid)]
        except (MissingError, PoisonError) as problem:
            _logger.info("who waits for %s has to read its end: %s", stream.stream_id, problem)
            return
        if len(laid) > ROWS_MAX:
            return
        for row in laid:
            rows.setdefault(row.table, []).append(row.values)
        body = codec.encode(Ended(to=end_to, stream_id=stream.stream_id, layout=LAYOUT, rows=rows))
        if len(body) <= BYTES_MAX:
            self._bus.publish_end(end_to.partition(".")[0], body)
