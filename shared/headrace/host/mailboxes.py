"""Mailboxes: what waits to be decided, in order within a stream and fairly between streams."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from headrace.host.items import Item

STREAM_TURN_MAX: Final = 64
"""Messages of one stream that are taken before other streams have their turn."""
RESTARTS_MIN: Final = 32
"""Streams of a new tenure that go on with each batch, however much else waits."""


class Mailboxes:
    """A queue per stream and a ring of streams. `restarts` hold what a new tenure goes on with, behind the rest."""

    def __init__(self) -> None:
        self._boxes: dict[str, deque[Item]] = {}
        self._ring: deque[str] = deque()
        self._restarts: deque[Item] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count + len(self._restarts)

    def put(self, item: Item) -> None:
        """Queue an item behind others of its stream."""
        box = self._boxes.get(item.stream_id)
        if box is None:
            box = self._boxes[item.stream_id] = deque()
            self._ring.append(item.stream_id)
        box.append(item)
        self._count += 1

    def put_back(self, items: Iterable[Item]) -> None:
        """Queue items again in their order, before others of their streams but behind other streams."""
        for item in reversed(list(items)):
            box = self._boxes.get(item.stream_id)
            if box is None:
                box = self._boxes[item.stream_id] = deque()
                self._ring.append(item.stream_id)
            box.appendleft(item)
            self._count += 1

    def put_restarts(self, items: Iterable[Item]) -> None:
        """Queue what a new tenure goes on with."""
        self._restarts.extend(items)

    def take(self, count: int) -> list[Item]:
        """Take up to `count` items: some of each stream in turn, a stream's own in order."""
        taken: list[Item] = []
        while len(taken) < count and self._ring:
            stream_id = self._ring.popleft()
            box = self._boxes[stream_id]
            taken.extend(box.popleft() for _ in range(min(len(box), STREAM_TURN_MAX, count - len(taken))))
            if box:
                self._ring.append(stream_id)
            else:
                del self._boxes[stream_id]
        self._count -= len(taken)
        restarts = min(len(self._restarts), max(count - len(taken), RESTARTS_MIN))
        taken.extend(self._restarts.popleft() for _ in range(restarts))
        return taken

    def holds(self, wanted: Callable[[Item], bool]) -> bool:
        """Tell whether some item is wanted."""
        boxes = any(wanted(item) for box in self._boxes.values() for item in box)
        return boxes or any(wanted(item) for item in self._restarts)

    def drop(self, unwanted: Callable[[Item], bool]) -> None:
        """Forget items: their tenure is over, and whoever sent them will send them again."""
        self._restarts = deque(item for item in self._restarts if not unwanted(item))
        for stream_id in list(self._boxes):
            kept = deque(item for item in self._boxes[stream_id] if not unwanted(item))
            if kept:
                self._boxes[stream_id] = kept
            else:
                del self._boxes[stream_id]
        self._ring = deque(stream_id for stream_id in self._ring if stream_id in self._boxes)
        self._count = sum(len(box) for box in self._boxes.values())
