"""Wake-ups: the near ones in a heap, the rest in the database's index."""

import heapq
from dataclasses import dataclass
from typing import Final

from headrace.host.tenure import Held
from headrace.vocabulary import TELL_REPEAT_MAX_S, TELL_REPEAT_S

WAKEUPS_MAX: Final = 100_000


@dataclass(slots=True)
class Appointment:
    """When a stream is woken next, how long it was put off last (ms), and whether its wake-up is on its way."""

    held: Held
    at: int
    delay_ms: int = 0
    fired: bool = False


class Wakeups:
    """The streams that want a `Wake` within the window (ms), and those that were put off."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._heap: list[tuple[int, str]] = []
        self._appointments: dict[str, Appointment] = {}

    def __len__(self) -> int:
        return len(self._appointments)

    @property
    def full(self) -> bool:
        """Tell whether no more are taken over from the database."""
        return len(self._appointments) >= WAKEUPS_MAX

    def note(self, held: Held, stream_id: str, at: int | None, now: int) -> None:
        """Take over what a stream wants after it changed; later than the window is the database's business."""
        if at is None or at > now + self._window_ms:
            self._appointments.pop(stream_id, None)
            return
        known = self._appointments.get(stream_id)
        if known is None or known.at != at or known.delay_ms or known.fired:
            self._set(held, stream_id, at, 0)

    def found(self, held: Held, stream_id: str, at: int) -> bool:
        """Take over what the database says is due, unless more is known here; tells whether it was."""
        if stream_id in self._appointments or self.full:
            return False
        self._set(held, stream_id, at, 0)
        return True

    def put_off(self, held: Held, stream_id: str, now: int, *, changed: bool, latest: int | None = None) -> None:
        """Put a stream off that is still due after a wake-up: it waits for somebody's receipt. Doubles each time.

        `latest` is when something else of it is due, which must not be put off.
        """
        known = self._appointments.get(stream_id)
        before = 0 if known is None or changed else known.delay_ms
        delay = min(max(before * 2, int(TELL_REPEAT_S * 1000)), int(TELL_REPEAT_MAX_S * 1000))
        at = now + delay if latest is None else min(now + delay, max(latest, now))
        self._set(held, stream_id, at, delay)

    def take_due(self, now: int) -> list[tuple[Held, str]]:
        """Give the streams whose time has come. Each stays known until `note` or `put_off`."""
        due: list[tuple[Held, str]] = []
        while self._heap and self._heap[0][0] <= now:
            at, stream_id = heapq.heappop(self._heap)
            known = self._appointments.get(stream_id)
            if known is not None and known.at == at and not known.fired:
                known.fired = True
                due.append((known.held, stream_id))
        return due

    def next_at(self) -> int | None:
        """Give the time of the earliest wake-up."""
        return self._heap[0][0] if self._heap else None

    def drop(self, held: Held) -> None:
        """Forget a tenure's wake-ups."""
        self._appointments = {key: known for key, known in self._appointments.items() if known.held is not held}
        self._heap = [(known.at, key) for key, known in self._appointments.items()]
        heapq.heapify(self._heap)

    def _set(self, held: Held, stream_id: str, at: int, delay_ms: int) -> None:
        self._appointments[stream_id] = Appointment(held, at, delay_ms)
        heapq.heappush(self._heap, (at, stream_id))
