"""What was answered under idempotency keys: what this process remembers, and when it asks the log before it decides.

Keys are fresh as a rule, so they are not read first: the append itself refuses one that is kept (see OwnerLog). Then the
draft is decided again with the answers that the refusal named, and for a while keys are read beforehand: where one
command comes again, others do, as after a takeover. What is refused keeps no answer, so that no append would notice:
before a command under a key is refused, the log is asked whether it was answered before.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from headrace.clock import Clock
from headrace.errors import HeadraceError, UnavailableError
from headrace.host import metrics
from headrace.host.cadence import READ_TIMEOUT_S, Cadence
from headrace.host.draft import Draft
from headrace.host.items import Item
from headrace.host.loading import States
from headrace.host.tenure import Held
from headrace.log.port import KeptAnswer, Log

REMEMBERED_BYTES_MAX: Final = 256 * 1024
"""Answers in memory; whoever asks again later than they stay is answered by way of the log."""
ANSWER_BYTES: Final = 500
"""What an answer takes in memory besides its bytes, about."""
Kept = Mapping[tuple[str, int, str], KeptAnswer]
"""Answers by log, partition and key."""


class Answers:
    """The answers that this process knows of: being decided, committed not long ago, or read for an item."""

    def __init__(self, log: Log, clock: Clock, cadence: Cadence) -> None:
        self._log = log
        self._clock = clock
        self._cadence = cadence
        self._wary_until = float("-inf")
        self._recent: OrderedDict[tuple[Held, str], tuple[KeptAnswer, float]] = OrderedDict()
        self._recent_bytes = 0

    @property
    def wary(self) -> bool:
        """Tell whether keys are to be read before they are decided."""
        return self._clock.monotonic() < self._wary_until

    async def ask(self, items: Sequence[Item]) -> None:
        """Read what was answered under the keys of items, as far as that is not known; raises UnavailableError."""
        wanted: dict[tuple[str, int, str], list[Item]] = {}
        for item in items:
            if item.key is not None and not item.held.over and self.unasked(item):
                wanted.setdefault((item.held.log, item.held.partition, item.key), []).append(item)
        if not wanted:
            return
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                found = await self._log.answers(list(wanted))
        except HeadraceError as problem:
            message = f"the log does not tell what was answered: {problem}"
            raise UnavailableError(message) from problem
        for place, asking in wanted.items():
            for item in asking:
                item.asked, item.kept = True, found.get(place)

    def unasked(self, item: Item) -> bool:
        """Tell whether the log may know an answer under an item's key that is not known here."""
        return item.key is not None and not item.asked and self.of(item) is None

    def of(self, item: Item) -> KeptAnswer | None:
        """Give what is known to have been answered under an item's key."""
        if item.key is None:
            return None
        known = item.kept or item.held.answering.get(item.key)
        if known is None and (recent := self._recent.get((item.held, item.key))) is not None:
            kept, at = recent
            known = kept if self._clock.monotonic() - at < self._cadence.answers_kept_s else None
        return known

    def committed(self, item: Item) -> None:
        """Note that an item is committed: the answer that was decided under its key is one to remember."""
        if item.key is None:
            return
        kept = item.held.answering.get(item.key)
        if kept is not None and kept.answer == item.outcome:
            del item.held.answering[item.key]
            self._remember(item.held, kept)

    def met(self, kept: Kept, items: Iterable[Item]) -> None:
        """Give items the answers for which an append was refused, and look beforehand for a while."""
        self._wary_until = self._clock.monotonic() + self._cadence.wary_s
        for item in items:
            found = kept.get((item.held.log, item.held.partition, item.key or ""))
            if found is not None:
                item.kept = found
                self._remember(item.held, found)

    def drop(self, held: Held) -> None:
        """Forget what was answered in a tenure that is over."""
        for place in [place for place in self._recent if place[0] is held]:
            self._forget(place)

    def _remember(self, held: Held, kept: KeptAnswer) -> None:
        place = held, kept.key
        if place in self._recent:
            self._forget(place)
        self._recent[place] = kept, self._clock.monotonic()
        self._recent_bytes += _weight(kept)
        while self._recent_bytes > REMEMBERED_BYTES_MAX:
            self._forget(next(iter(self._recent)))

    def _forget(self, place: tuple[Held, str]) -> None:
        known = self._recent.pop(place, None)
        if known is not None:
            self._recent_bytes -= _weight(known[0])


def undo(drafts: Iterable[Draft], states: States) -> list[Item]:
    """Take back what was decided of drafts of which nothing is committed; gives their items, to be decided again in order."""
    items: list[Item] = []
    metrics.count("undone")
    for draft in drafts:
        draft.void = True
        for part in draft.parts.values():
            part.held.drafted = part.held.position
            part.held.answering.clear()
            for stream_id in part.touched:
                states.forget(stream_id)
            for parked in part.parked:
                part.held.poisoned.pop(parked.stream_id or "", None)
        for item in draft.items:
            item.again()
            if not item.held.over:
                items.append(item)
    return items


def _weight(kept: KeptAnswer) -> int:
    return ANSWER_BYTES + len(kept.answer)
