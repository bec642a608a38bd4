"""What waits in the owner for one pool, and how much of it may be out: fair shares and a window."""

from collections import deque
from typing import Final

import msgspec

from headrace.host.tenure import Held
from headrace.wire import WorkOrder

WINDOW_BLIND: Final = 16
"""Orders published for a pool of which no live worker was heard."""
WINDOW_MIN: Final = 4.0
WINDOW_MAX: Final = 4_096.0
SLOTS_AHEAD: Final = 2
"""Orders published for each live slot at least, so that no worker waits for an owner."""
AHEAD_S: Final = 1.0
"""How long an order may wait for a slot for the window to grow: what is published already is nobody's turn any more,
so that a new workspace waits about so long behind it."""
STALLED_S: Final = 5.0
QUANTUM: Final = 4
"""What a workspace may spend in its turn; an order costs one, and one more for each COST_BYTES of arguments."""
COST_BYTES: Final = 16 * 1024
GONE_MAX: Final = 256
"""Withdrawn orders that may stand in queues, unless more wait there."""


class Order(msgspec.Struct, eq=False):
    """An attempt that the dispatcher looks after. `at` is when it was published, `ready_at` (ms) when it was ready; see `judging` for the rest."""

    held: Held
    order: WorkOrder
    priority: int
    suspect: bool = False
    at: float = 0.0
    ready_at: int = 0
    mark: int | None = None
    made: int = 0
    unheld_since: float | None = None
    gone: bool = False
    asked: bool = False
    """Whether its time to wait was over once, and whoever began it was given the time of a beat to say so."""
    begun_at: float | None = None
    """Proven seconds of listening when a live worker first said that it performs it."""

    @property
    def cost(self) -> int:
        """Give what it costs its workspace: a chain as much as its steps one by one."""
        return 1 + len(self.order.chain) + len(self.order.arguments) // COST_BYTES


class Window:
    """How many orders of a pool may be out.

    One more with each result while it is too small (`full`: more waits than has room), one less with each result whose
    order waited for longer than AHEAD_S, half when no result comes.
    """

    def __init__(self, now: float) -> None:
        self.size = WINDOW_MIN
        self.full = False
        self._moved_at = now

    def room(self, out: int, slots: int) -> int:
        """Give how many more may leave while `out` are out and live workers have `slots`."""
        least = slots * SLOTS_AHEAD if slots else WINDOW_BLIND
        return max(int(max(self.size, least)) - out, 0)

    def finished(self, now: float, waited_s: float) -> None:
        """Note a result: for how long its order was out without being performed."""
        self._moved_at = now
        if waited_s > AHEAD_S:
            self.size = max(self.size - 1, WINDOW_MIN)
        elif self.full:
            self.size = min(self.size + 1, WINDOW_MAX)

    def tick(self, out: int, now: float) -> None:
        """Note that time passes."""
        if not out:
            self._moved_at = now
        elif now - self._moved_at >= STALLED_S:
            self._moved_at = now
            self.size = max(self.size / 2, WINDOW_MIN)


class Waiting:
    """Ready orders of a pool: deficit round robin between workspaces, priority (higher first) within one."""

    def __init__(self) -> None:
        self._queues: dict[str, dict[int, deque[Order]]] = {}
        self._turns: deque[str] = deque()
        self._credit: dict[str, int] = {}
        self._count = 0
        self._gone = 0
        """Withdrawn orders that still stand in a queue."""

    def __len__(self) -> int:
        return self._count

    def put(self, order: Order, *, first: bool = False) -> None:
        """Queue an order of its workspace; `first` for one that had its turn before."""
        workspace = order.order.workspace
        queues = self._queues.get(workspace)
        if queues is None:
            queues = self._queues[workspace] = {}
            self._turns.append(workspace)
        queue = queues.setdefault(order.priority, deque())
        if first:
            queue.appendleft(order)
        else:
            queue.append(order)
        self._count += 1

    def withdraw(self, order: Order) -> None:
        """Let a queued order never leave; the caller knows that it is queued."""
        order.gone = True
        self._count -= 1
        self._gone += 1
        if self._gone > max(self._count, GONE_MAX):
            self._sweep()

    def _sweep(self) -> None:
        """Take out what was withdrawn: in a pool that no worker serves nothing else would ever come to it."""
        self._gone = 0
        for workspace, queues in list(self._queues.items()):
            left = {priority: deque(order for order in queue if not order.gone) for priority, queue in queues.items()}
            self._queues[workspace] = {priority: queue for priority, queue in left.items() if queue}
            if not self._queues[workspace]:
                del self._queues[workspace]
                self._credit.pop(workspace, None)
        self._turns = deque(workspace for workspace in self._turns if workspace in self._queues)

    def take(self) -> Order | None:
        """Give the next order in fair turn."""
        while self._count:
            workspace = self._turns[0]
            order = self._head(workspace)
            if order is None:
                self._turns.popleft()
                del self._queues[workspace]
                self._credit.pop(workspace, None)
                continue
            credit, cost = self._credit.get(workspace, QUANTUM), order.cost
            if credit < cost:
                self._credit[workspace] = credit + QUANTUM
                self._turns.rotate(-1)
                continue
            self._credit[workspace] = credit - cost
            if credit <= cost:
                self._credit[workspace] += QUANTUM
                self._turns.rotate(-1)
            queues = self._queues[workspace]
            queues[order.priority].popleft()
            self._count -= 1
            if not self._count:
                self._gone = 0
                self._queues.clear()
                self._turns.clear()
                self._credit.clear()
            return order
        return None

    def _head(self, workspace: str) -> Order | None:
        queues = self._queues[workspace]
        for priority in sorted(queues, reverse=True):
            queue = queues[priority]
            while queue and queue[0].gone:
                queue.popleft()
                self._gone -= 1
            if queue:
                return queue[0]
            del queues[priority]
        return None
