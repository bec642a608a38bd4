"""The ids of a run's attempts and children, which follow from its own (pure)."""

from typing import Final

from headrace import ids
from headrace.vocabulary import LOG_PARTITIONS, LOG_RUNS, MAP_IN_FLIGHT_MAX

KEPT_MAX: Final = 2 * MAP_IN_FLIGHT_MAX
"""Ids of attempts that are kept, lest they be derived again for their results: those of a map's items among them."""


class Naming:
    """Gives ids: the same parts always give the same one."""

    __slots__ = ("_created", "_kept", "_partition", "_run_id")

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._created: int | None = None
        self._partition = 0
        self._kept: dict[tuple[str, int], str] = {}

    def attempt(self, label: str, attempt: int) -> str:
        """Give the id of an attempt of a labelled instance."""
        known = self._kept.get((label, attempt))
        if known is None:
            if self._created is None:
                self._created, self._partition = ids.millis_of(self._run_id), ids.partition_of(self._run_id)
            known = ids.derive(ids.ATTEMPT, self._created, self._partition, self._run_id, label, str(attempt))
            if len(self._kept) >= KEPT_MAX:
                del self._kept[next(iter(self._kept))]
            self._kept[label, attempt] = known
        return known

    def child(self, label: str, attempt: int, at: int) -> str:
        """Give the id of the run that performs an attempt which begins at a time (ms)."""
        partition = ids.partition_for(LOG_PARTITIONS[LOG_RUNS], self._run_id, label, str(attempt))
        return ids.derive(ids.RUN, at, partition, self._run_id, label, str(attempt))
