"""Mailboxes: what waits to be decided, in order within a stream, fairly between workspaces and between their streams."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from headrace.host.items import Item

STREAM_TURN_MAX: Final = 64
"""Messages of one stream that are taken before other streams have their turn."""
WORKSPACE_TURN_MAX: Final = 64
"""Messages of one workspace that are taken before other workspaces have their turn."""
RESTARTS_MIN: Final = 32
"""Streams of a new tenure that go on with each batch, however much else waits."""
OWN: Final = ""
"""Where streams wait that the owner itself wakes, whosever they are: they have a turn like a workspace."""


class Mailboxes:
    """A queue per stream, a ring of streams per workspace, a ring of workspaces.

    `restarts` hold what a new tenure goes on with, behind the rest.
    """

    def __init__(self) -> None:
        self._boxes: dict[str, deque[Item]] = {}
        self._rings: dict[str, deque[str]] = {}
        self._turns: deque[str] = deque()
        self._restarts: deque[Item] = deque()
        self._count = 0
        self._lone: Item | None = None
        """The only item that waits, which needs no queue."""

    def __len__(self) -> int:
        return self._count + len(self._restarts) + (self._lone is not None)

    def put(self, item: Item) -> None:
        """Queue an item behind others of its stream."""
        if not self._count and self._lone is None:
            self._lone = item
            return
        self._queue_lone()
        self._box(item).append(item)
        self._count += 1

    def _queue_lone(self) -> None:
        """Give the only item a queue, now that others come."""
        lone, self._lone = self._lone, None
        if lone is not None:
            self._box(lone).append(lone)
            self._count += 1

    def put_back(self, items: Iterable[Item]) -> None:
        """Queue items again in their order, before others of their streams but behind other streams."""
        self._queue_lone()
        for item in reversed(list(items)):
            self._box(item).appendleft(item)
            self._count += 1

    def _box(self, item: Item) -> deque[Item]:
        box = self._boxes.get(item.stream_id)
        if box is None:
            box = self._boxes[item.stream_id] = deque()
            workspace = item.workspace or OWN
            ring = self._rings.get(workspace)
            if ring is None:
                ring = self._rings[workspace] = deque()
                self._turns.append(workspace)
            ring.append(item.stream_id)
        return box

    def put_restarts(self, items: Iterable[Item]) -> None:
        """Queue what a new tenure goes on with."""
        self._restarts.extend(items)

    def take(self, count: int) -> list[Item]:
        """Take up to `count` items: some of each workspace in turn, and of each of its streams, a stream's own in order."""
        lone, self._lone = self._lone, None
        taken: list[Item] = [] if lone is None else [lone]
        if not self._count and not self._restarts:
            return taken
        while len(taken) < count and self._turns:
            workspace = self._turns.popleft()
            ring = self._rings[workspace]
            self._take_turn(ring, taken, min(WORKSPACE_TURN_MAX, count - len(taken)))
            if ring:
                self._turns.append(workspace)
            else:
                del self._rings[workspace]
        self._count -= len(taken) - (lone is not None)
        restarts = min(len(self._restarts), max(count - len(taken), RESTARTS_MIN))
        taken.extend(self._restarts.popleft() for _ in range(restarts))
        return taken

    def _take_turn(self, ring: deque[str], taken: list[Item], share: int) -> None:
        while share > 0 and ring:
            stream_id = ring.popleft()
            box = self._boxes[stream_id]
            some = min(len(box), STREAM_TURN_MAX, share)
            taken.extend(box.popleft() for _ in range(some))
            share -= some
            if box:
                ring.append(stream_id)
            else:
                del self._boxes[stream_id]

    def holds(self, wanted: Callable[[Item], bool]) -> bool:
        """Tell whether some item is wanted."""
        self._queue_lone()
        boxes = any(wanted(item) for box in self._boxes.values() for item in box)
        return boxes or any(wanted(item) for item in self._restarts)

    def drop(self, unwanted: Callable[[Item], bool]) -> None:
        """Forget items: their tenure is over, and whoever sent them will send them again."""
        self._queue_lone()
        self._restarts = deque(item for item in self._restarts if not unwanted(item))
        for stream_id in list(self._boxes):
            kept = deque(item for item in self._boxes[stream_id] if not unwanted(item))
            if kept:
                self._boxes[stream_id] = kept
            else:
                del self._boxes[stream_id]
        for workspace, ring in list(self._rings.items()):
            self._rings[workspace] = deque(stream_id for stream_id in ring if stream_id in self._boxes)
            if not self._rings[workspace]:
                del self._rings[workspace]
        self._turns = deque(workspace for workspace in self._turns if workspace in self._rings)
        self._count = sum(len(box) for box in self._boxes.values())


class Turns:
    """Items whose streams have no name yet: one of each workspace in turn, a workspace's own in order."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Item]] = {}

    def put(self, item: Item) -> None:
        """Queue an item behind others of its workspace."""
        self._lines.setdefault(item.workspace or OWN, deque()).append(item)

    def take(self) -> Item | None:
        """Take the next item: the workspace whose turn it was goes behind the others."""
        for workspace in self._lines:
            line = self._lines.pop(workspace)
            item = line.popleft()
            if line:
                self._lines[workspace] = line
            return item
        return None
