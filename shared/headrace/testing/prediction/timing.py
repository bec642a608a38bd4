"""Virtual time as a run would meet it: only what it waits for counts, not how the simulation looks after it (pure)."""

import heapq


class Hours:
    """Turns the engine's times (ms) into seconds of the run. Feed it events in the order in which they happened.

    Between two things that are due no time goes by: people of a simulation decide at once, tools take no time.
    """

    def __init__(self, begins_ms: int) -> None:
        self._dues: list[tuple[int, float]] = []
        self._begins_ms = begins_ms
        self.now_s = 0.0

    def due(self, began_ms: int, due_ms: int) -> None:
        """Note that something which begins now is due at a time of the engine."""
        heapq.heappush(self._dues, (due_ms, self.now_s + (due_ms - began_ms) / 1000))

    def at(self, at_ms: int) -> float:
        """Give the run's time at an event: that of the latest thing which was due by then."""
        while self._dues and self._dues[0][0] <= at_ms:
            self.now_s = max(self.now_s, heapq.heappop(self._dues)[1])
        return self.now_s
