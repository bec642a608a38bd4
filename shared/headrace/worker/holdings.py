"""What a worker holds, for the thread that tells owners of it.

The loop changes entries, tools tell their progress from any thread, and beats are made on a thread of their own: each
entry is replaced whole, and a reader takes all of them at once.
"""

import threading
from typing import Final

import msgspec

from headrace.wire import Holding, WorkOrder

PROGRESS_CHARS_MAX: Final = 200


class Holdings:
    """Held attempts by id, safe to change and to read from any thread."""

    def __init__(self) -> None:
        self._held: dict[str, Holding] = {}
        self._lock = threading.Lock()

    def taken(self, order: WorkOrder, now_ms: int) -> None:
        """Note an order that was delivered."""
        held = Holding(
            attempt_id=order.attempt_id,
            tool=order.tool,
            since=now_ms,
            run_id=order.run_id,
            step=order.step,
            index=order.index,
            workspace=order.workspace,
        )
        with self._lock:
            self._held[order.attempt_id] = held

    def begun(self, attempt_id: str, now_ms: int) -> None:
        """Note that an attempt is performed from now on."""
        self._replace(attempt_id, begun=True, since=now_ms)

    def progressed(self, attempt_id: str, done: float, message: str) -> None:
        """Note how far a tool says it is, 0 to 1."""
        self._replace(attempt_id, progress=done, message=message[:PROGRESS_CHARS_MAX])

    def let_go(self, attempt_id: str) -> None:
        """Note that an attempt is not held any more."""
        with self._lock:
            self._held.pop(attempt_id, None)

    def get(self, attempt_id: str) -> Holding | None:
        """Give one that is held."""
        return self._held.get(attempt_id)

    def all(self) -> tuple[Holding, ...]:
        """Give everything held, as it stands at one moment."""
        with self._lock:
            return tuple(self._held.values())

    def _replace(self, attempt_id: str, **changes: object) -> None:
        with self._lock:
            held = self._held.get(attempt_id)
            if held is not None:
                self._held[attempt_id] = msgspec.structs.replace(held, **changes)
