"""Presence: which workers live and what they hold, as far as this process can prove it.

Beats travel over a path that may be cut, and silence on a cut path proves nothing. So an owner sends probes on the same
path: only time between probes that came back counts as time of listening. After a gap (takeover, reconnect, a pause of
this process) the clock of every worker starts again. Kept in memory alone.
"""

from collections import deque
from collections.abc import Container, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from headrace.clock import Clock
from headrace.host.cadence import QUICK, Cadence
from headrace.wire import Beat

PROBE_GAP_FACTOR: Final = 4.0
"""A probe that returns later than this many intervals after the one before proves no unbroken listening."""
WORKERS_MAX: Final = 10_000


@dataclass(slots=True)
class Seen:
    """A worker as its last beat says; `heard` is the listening time at which it came."""

    beat: Beat
    heard: float
    at_s: float = 0.0
    """Monotonic seconds of this process when it came, whatever was proven since."""


class Presence:
    """What beats and probes say. Times are seconds of proven listening."""

    def __init__(self, clock: Clock, cadence: Cadence = QUICK) -> None:
        self._clock = clock
        self._cadence = cadence
        self._seen: dict[str, Seen] = {}
        self._holders: dict[str, str] = {}
        self._begun: set[str] = set()
        self._left: deque[tuple[float, Beat]] = deque()
        """Workers that are gone, since when (proven), by their last beats: what they held was theirs."""
        self._probes: dict[str, float] = {}
        self._last_returned: float | None = None
        self.proven = 0.0
        """Seconds of listening that returned probes prove, since this process began."""

    def heard(self, beat: Beat) -> None:
        """Take a beat in."""
        known = self._seen.get(beat.worker)
        if known is None and (beat.leaving or len(self._seen) >= WORKERS_MAX):
            return
        if known is not None:
            for held in known.beat.holding:
                if self._holders.get(held.attempt_id) == beat.worker:
                    self._let_go(held.attempt_id)
        for held in beat.holding:
            self._holders[held.attempt_id] = beat.worker
            if held.begun:
                self._begun.add(held.attempt_id)
        if beat.leaving:  # what it could not report is lost with it, at once
            self.give_up(beat.worker, beat)
        else:
            self._seen[beat.worker] = Seen(beat, self.proven, self._clock.monotonic())

    def probe(self, nonce: str) -> None:
        """Note that a probe was sent."""
        now, longest = self._clock.monotonic(), self._cadence.probe_s * PROBE_GAP_FACTOR
        self._probes = {known: at for known, at in self._probes.items() if now - at <= longest}
        self._probes[nonce] = now

    def probe_returned(self, nonce: str) -> None:
        """Note that a probe came back: the time since the one before was spent listening, unless that was a gap."""
        sent = self._probes.pop(nonce, None)
        if sent is None:
            return
        longest = self._cadence.probe_s * PROBE_GAP_FACTOR
        if self._last_returned is None or sent - self._last_returned > longest:
            self.restart()
        else:
            self.proven += max(sent - self._last_returned, 0.0)
        self._last_returned = max(sent, self._last_returned or sent)
        self._forget()

    def restart(self) -> None:
        """Let the clock of every worker start again: what was silent may not have been heard."""
        for seen in self._seen.values():
            seen.heard = self.proven

    def silence(self, worker: str) -> float | None:
        """Give how long a worker is proven silent, in seconds; None for an unknown one."""
        seen = self._seen.get(worker)
        return None if seen is None else self.proven - seen.heard

    def silent_s(self, worker: str) -> float | None:
        """Give the seconds since a worker's last beat came, proven or not; None for an unknown one."""
        seen = self._seen.get(worker)
        return None if seen is None else self._clock.monotonic() - seen.at_s

    def worker(self, worker: str) -> Seen | None:
        """Give what is known of a worker."""
        return self._seen.get(worker)

    def give_up(self, worker: str, last: Beat | None = None) -> None:
        """Take a worker for dead until it beats again. What it held (by its `last` beat) is known as its for a while."""
        seen = self._seen.pop(worker, None)
        beat = last or (seen.beat if seen is not None else None)
        if beat is not None and beat.holding:
            self._left.append((self.proven, beat))

    def forget(self, workers: Iterable[str], silent_s: float) -> None:
        """Forget those workers that have not been heard for a time."""
        for worker in workers:
            silence = self.silent_s(worker)
            if silence is not None and silence >= silent_s:
                self._drop(worker)

    def workers(self) -> list[Seen]:
        """Give all workers that are not forgotten."""
        return list(self._seen.values())

    def live(self) -> list[Beat]:
        """Give the last beats of the workers that are not lost."""
        return [seen.beat for seen in self._seen.values() if self.proven - seen.heard < self._cadence.lost_s]

    def pools(self) -> dict[str, int]:
        """Give the slots of live workers by pool."""
        slots: dict[str, int] = {}
        for beat in self.live():
            for pool in () if beat.draining else beat.pools:
                slots[pool] = slots.get(pool, 0) + max(beat.slots, 1)
        return slots

    def holder(self, attempt_id: str) -> str | None:
        """Give the live worker that says it holds an attempt."""
        worker = self._holders.get(attempt_id)
        return worker if worker is not None and not self.is_lost(worker) else None

    def last_holder(self, attempt_id: str) -> str | None:
        """Give the worker that said last that it holds an attempt, live or lost."""
        return self._holders.get(attempt_id)

    def begun(self, attempt_id: str) -> bool:
        """Tell whether the worker that holds an attempt says that it performs it."""
        return attempt_id in self._begun

    def performed_ms(self, attempts: AbstractSet[str]) -> int:
        """Give how long the first of some attempts has been performed, as its live worker says; 0: none is performed."""
        longest_ms = 0
        for worker in {self.holder(each) for each in attempts if each in self._begun}:
            seen = None if worker is None else self._seen.get(worker)
            if seen is None:
                continue
            told_ms = int((self._clock.monotonic() - seen.at_s) * 1000)
            for held in seen.beat.holding:
                if held.begun and held.attempt_id in attempts:
                    longest_ms = max(longest_ms, 1 + told_ms + max(0, seen.beat.at - held.since))
        return longest_ms

    def is_lost(self, worker: str) -> bool:
        """Tell whether a worker is proven silent for too long."""
        silence = self.silence(worker)
        return silence is None or silence >= self._cadence.lost_s

    def _forget(self) -> None:
        for worker, seen in list(self._seen.items()):
            if self.proven - seen.heard >= self._cadence.forgotten_s:
                self._drop(worker)
        while self._left and self.proven - self._left[0][0] >= self._cadence.forgotten_s:
            _, beat = self._left.popleft()
            back = self._seen.get(beat.worker)  # if it came back, its own beats say what it holds
            still = {held.attempt_id for held in back.beat.holding} if back is not None else set()
            self._let_all_go(beat, still)

    def _drop(self, worker: str) -> None:
        self._let_all_go(self._seen.pop(worker).beat)

    def _let_all_go(self, beat: Beat, but: Container[str] = ()) -> None:
        for held in beat.holding:
            if held.attempt_id not in but and self._holders.get(held.attempt_id) == beat.worker:
                self._let_go(held.attempt_id)

    def _let_go(self, attempt_id: str) -> None:
        del self._holders[attempt_id]
        self._begun.discard(attempt_id)
