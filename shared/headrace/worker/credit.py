"""How many orders a worker asks for: its slots, and ahead of them about PREFETCH_S worth of work.

Tools that take a fraction of a millisecond would otherwise wait for the bus after each; slow ones should not hoard
what another worker could do. The average forgets quickly, so that credit shrinks when tools turn slow.
"""

from typing import Final

PREFETCH_S: Final = 0.05
PREFETCH_MAX: Final = 512
WEIGHT: Final = 0.2
DURATION_FLOOR_S: Final = 0.000_05
GROWTH_MAX: Final = 2


class Credit:
    """One pool's credit: orders asked for, waiting and under way, together at most `target`."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._average_s = PREFETCH_S
        self._target = slots
        self._asked = 0
        self._held = 0

    @property
    def target(self) -> int:
        """Give how many orders may be asked for or held now."""
        return self._target

    def arrived(self) -> None:
        """Note that an order came, asked for or not: after trouble requests may stand twice, and the bus counts each."""
        self._asked -= 1
        self._held += 1

    def settled(self, duration_s: float | None) -> None:
        """Note that an order is done with; `duration_s` is None when nothing was performed."""
        self._held -= 1
        if duration_s is not None:
            self._average_s += WEIGHT * (max(duration_s, DURATION_FLOOR_S) - self._average_s)
            ahead = min(PREFETCH_MAX, int(self._slots * PREFETCH_S / self._average_s))
            self._target = min(self._slots + ahead, self._target * GROWTH_MAX)

    def forgotten(self) -> None:
        """Note that what was asked for and has not come is not coming any more."""
        self._asked = 0

    def wanted(self) -> int:
        """Give how many more to ask for now, and note that they were: few at a time would cost a message each."""
        missing = self._target - self._asked - self._held
        if missing < max(1, self._target // 4):
            return 0
        self._asked += missing
        return missing
