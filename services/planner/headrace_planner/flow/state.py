"""What a shared key remembers (pure)."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from headrace import ids
from headrace.vocabulary import PERMIT_CONFIRM_S, PERMIT_CONFIRM_WANTED_S

CONCURRENCY: Final = "concurrency"
RATE_LIMIT: Final = "rate_limit"
"""The kinds of keys: one that runs hold until they are over, and one that attempts use up."""
QUEUE: Final = "queue"
REJECT: Final = "reject"
REPLACE: Final = "replace"
"""What a run's plan may say should happen while the key is taken."""


class Permit(msgspec.Struct, omit_defaults=True):
    """A run's request, until it is given back or, of a rate limit, used up. `count` is how many attempts it asks for."""

    run_id: str
    limit: int
    period_ms: int = 0
    on_conflict: str = QUEUE
    priority: int = 0
    count: int = 1
    given: int = 0
    asked_at: int = 0
    recalled_for: str = ""

    @property
    def lacking(self) -> int:
        """Give how much of it was not given yet."""
        return self.count - self.given


class Flow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A key. All times are milliseconds since 1970.

    `permits` stand in the order in which they were asked for. `queue` holds those that wait, by priority. `held` says
    since when runs hold a concurrency key (or when they last confirmed it), the longest ago first. `untold` and
    `recalled` say since when a run has not confirmed what it was given, and not made room. `spent` are the attempts
    that a rate limit let begin: when, and how many, as far back as its period. `over`: this stream of it ended, and the
    key `goes_on` in another one that began with what counts of it.
    """

    id: str
    workspace: str
    version: int = 0
    kind: str = ""
    key: str = ""
    limit: int = 0
    period_ms: int = 0
    permits: dict[str, Permit] = {}
    queue: dict[int, dict[str, None]] = {}
    held: dict[str, int] = {}
    untold: dict[str, int] = {}
    recalled: dict[str, int] = {}
    spent: list[tuple[int, int]] = []
    updated_at: int = 0
    over: bool = False
    goes_on: bool = False

    @property
    def address(self) -> str:
        """Give the id under which runs ask for the key, whichever stream it is used in."""
        return ids.address(self.id)

    def waiting(self) -> Iterator[str]:
        """Give the permits that wait, in the order in which they are given: by priority, then first come first served."""
        for priority in sorted(self.queue, reverse=True):
            yield from self.queue[priority]

    def head(self) -> str | None:
        """Give the permit that is given next."""
        return next(self.waiting(), None)

    @property
    def queued(self) -> int:
        """Give how many requests wait."""
        return sum(map(len, self.queue.values()))

    def free(self, limit: int, period_ms: int, now: int) -> int:
        """Give how many more may hold the key, or begin now, under a limit."""
        if self.kind == CONCURRENCY:
            return limit - len(self.held)
        return limit - sum(count for at, count in self.spent if at > now - period_ms)

    def opens_at(self) -> int | None:
        """Give when a rate limit next has room for whoever waits first."""
        head = self.head()
        if head is None or self.kind == CONCURRENCY:
            return None
        permit = self.permits[head]
        left = sum(count for _, count in self.spent)
        opens = self.updated_at
        for at, count in self.spent:
            if left < permit.limit:
                break
            left -= count
            opens = at + permit.period_ms
        return opens

    @property
    def confirm_ms(self) -> int:
        """Give after how long a holder is asked whether it still holds the key: soon when somebody waits for it."""
        return int((PERMIT_CONFIRM_WANTED_S if self.queue else PERMIT_CONFIRM_S) * 1000)

    def holders(self, count: int) -> list[str]:
        """Name the first runs that hold the key."""
        return [self.permits[permit_id].run_id for permit_id in islice(self.held, count)]
