"""What a worker did lately: an order that comes again is answered with the report it got, not performed again."""

from collections import OrderedDict
from typing import Final

import msgspec

from headrace.messages import ReportAttempt
from headrace.worker.outbox import Parcel

BYTES_MAX: Final = 16 * 1024 * 1024
COUNT_MAX: Final = 20_000


class Done(msgspec.Struct, frozen=True):
    """A finished attempt: its arguments' digest and its report, as it was sent; `shared` by so many of a chain.

    `alone` is the report of one that was sent behind others: an owner that asks for it may know what came before it, and
    one of an older version understands no chains. `chained` was never ordered by itself.
    """

    arguments_digest: str
    parcel: Parcel
    shared: int = 1
    alone: ReportAttempt | None = None
    chained: bool = False

    @property
    def size(self) -> int:
        """Give its share of the message, in bytes."""
        return len(self.parcel.told) // self.shared


class Recent:
    """Finished attempts by id, the oldest forgotten first, bounded in number and bytes."""

    def __init__(self) -> None:
        self._done: OrderedDict[str, Done] = OrderedDict()
        self._bytes = 0

    def __contains__(self, attempt_id: str) -> bool:
        return attempt_id in self._done

    def keep(self, attempt_id: str, done: Done) -> None:
        """Remember a finished attempt."""
        before = self._done.pop(attempt_id, None)
        self._bytes += done.size - (before.size if before else 0)
        self._done[attempt_id] = done
        while self._bytes > BYTES_MAX or len(self._done) > COUNT_MAX:
            _, oldest = self._done.popitem(last=False)
            self._bytes -= oldest.size

    def forget(self, attempt_id: str) -> None:
        """Forget an attempt."""
        self._bytes -= self._done.pop(attempt_id).size

    def get(self, attempt_id: str) -> Done | None:
        """Give what became of an attempt, as far as remembered."""
        return self._done.get(attempt_id)
