"""The weather between simulated processes: how often messages and answers are lost, repeated and late."""

from collections import Counter

import msgspec

from headrace.bus.memory_broker import ARRIVES, Fate
from headrace.testing.simulation.chance import Chance

SLOW = 0.1
SLOW_S = 0.1


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Shares, 0 to 1, of what goes wrong while the storm lasts. `late_s` is how late at most."""

    lost: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    late_s: float = 3.0
    unacked: float = 0.0
    """Of messages and requests that arrive: the acknowledgement, or the answer, gets lost."""
    append_refused: float = 0.0
    """Of appends: the log does not answer before it wrote anything."""
    append_unknown: float = 0.0
    """Of appends: the log has written, and its answer gets lost."""
    append_late: float = 0.0
    """Of appends: they reach the log only after seconds, when somebody else may own the partition."""
    log_silent: float = 0.0
    """Of reads and heartbeats: the log does not answer."""


CALM = Rates()


class Weather:
    """What is drawn for each message and each call. `fired` counts what went wrong, by name."""

    def __init__(self, chance: Chance, rates: Rates) -> None:
        self.rates = rates
        self.fired: Counter[str] = Counter()
        self.log_away = False
        """While true, nobody reaches the log."""
        self._draw = chance.random

    def calm(self) -> None:
        """Let everything arrive from now on."""
        self.rates = CALM

    def fate(self) -> Fate:
        """Draw what becomes of one message."""
        rates = self.rates
        if rates is CALM:
            return ARRIVES
        drawn = self._draw()
        if drawn < rates.lost:
            self.fired["message lost"] += 1
            return Fate(0)
        drawn -= rates.lost
        if drawn < rates.twice:
            self.fired["message repeated"] += 1
            return Fate(2, self._draw() * rates.late_s)
        drawn -= rates.twice
        if drawn < rates.late:
            self.fired["message late"] += 1
            return Fate(1, self._draw() * rates.late_s)
        return ARRIVES

    def happens(self, name: str, share: float) -> bool:
        """Draw whether something goes wrong, and count it."""
        if share <= 0 or self._draw() >= share:
            return False
        self.fired[name] += 1
        return True

    def drawn(self) -> float:
        """Draw a number from 0 to 1."""
        return self._draw()

    def delay_s(self) -> float:
        """Draw how long an ordinary way takes: mostly none, which still lets others go first."""
        drawn = self._draw()
        return SLOW_S * drawn if drawn < SLOW else 0.0
