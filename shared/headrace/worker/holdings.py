"""What a worker holds, for the thread that tells owners of it.

The loop changes entries, tools tell their progress from any thread, and beats are made on a thread of their own, which
takes all of them at one moment. What beats say is made when one is due, not with every change.
"""

import threading
from typing import Final

from headrace.wire import Holding, WorkOrder

PROGRESS_CHARS_MAX: Final = 200


class Entry:
    """An order that is held; changed under the lock alone."""

    __slots__ = ("begun", "message", "order", "progress", "since")

    def __init__(self, order: WorkOrder, since: int) -> None:
        self.order, self.since = order, since
        self.begun = False
        self.progress: float | None = None
        self.message = ""

    def show(self) -> Holding:
        """Give what a beat says of it."""
        return Holding(
            attempt_id=self.order.attempt_id,
            tool=self.order.tool,
            since=self.since,
            run_id=self.order.run_id,
            step=self.order.step,
            index=self.order.index,
            workspace=self.order.workspace,
            begun=self.begun,
            progress=self.progress,
            message=self.message,
        )


class Holdings:
    """Held attempts by id, safe to change and to read from any thread."""

    def __init__(self) -> None:
        self._held: dict[str, Entry] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def taken(self, order: WorkOrder, now_ms: int, *, begun: bool = False) -> None:
        """Note an order that was delivered, or (`begun`) that the one before it in its chain has led to."""
        entry = Entry(order, now_ms)
        entry.begun = begun
        with self._lock:
            self._held[order.attempt_id] = entry

    def begun(self, attempt_id: str, now_ms: int) -> None:
        """Note that an attempt is performed from now on."""
        with self._lock:
            held = self._held.get(attempt_id)
            if held is not None:
                held.begun, held.since = True, now_ms

    def progressed(self, attempt_id: str, done: float, message: str) -> None:
        """Note how far a tool says it is, 0 to 1."""
        with self._lock:
            held = self._held.get(attempt_id)
            if held is not None:
                held.progress, held.message = done, message[:PROGRESS_CHARS_MAX]

    def let_go(self, *attempt_ids: str) -> None:
        """Note that attempts are not held any more."""
        with self._lock:
            for attempt_id in attempt_ids:
                self._held.pop(attempt_id, None)

    def get(self, attempt_id: str) -> Holding | None:
        """Give one that is held."""
        with self._lock:
            held = self._held.get(attempt_id)
            return None if held is None else held.show()

    def all(self) -> tuple[Holding, ...]:
        """Give everything held, as it stands at one moment."""
        with self._lock:
            return tuple(held.show() for held in self._held.values())
