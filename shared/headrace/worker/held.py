"""What a worker holds and knows of its orders: each from its delivery, and what was said of those that are not here."""

import asyncio
from collections import OrderedDict
from typing import Final

import msgspec

from headrace.messages import ReportAttempt
from headrace.vocabulary import WORKSPACE_DEFAULT, AttemptStatus
from headrace.wire import WorkOrder
from headrace.worker.chains import Chain
from headrace.worker.done import Done, Recent
from headrace.worker.orders import RefusedOrderError
from headrace.worker.tool_runner import Performance

WARNINGS_MAX: Final = 4_096
REPLAY: Final = "replay"


class Held:
    """An order of this worker, from its delivery until its report, and all of its chain, are on the bus."""

    def __init__(self, order: WorkOrder, packed: bytes) -> None:
        self.order = order
        self.packed = packed
        self.performance: Performance | None = None
        self.task: asyncio.Task[None] | None = None
        self.chain: Chain | None = None
        self.stopping: tuple[str, bool] | None = None
        """Why it was stopped, and whether because the worker leaves."""
        self.over = False

    def digest(self, attempt_id: str) -> str:
        """Give the digest of an attempt's arguments: its order's, or of one that its chain has come to."""
        return self.order.arguments_digest if self.chain is None else self.chain.attempts[attempt_id]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a worker is."""

    worker: str
    service: str
    host: str
    pools: tuple[str, ...]
    slots: int
    workspace: str = WORKSPACE_DEFAULT


class Warnings:
    """What was said of attempts whose orders are not here, for when they come; the oldest is forgotten first."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, str] = OrderedDict()

    def __contains__(self, attempt_id: str) -> bool:
        return attempt_id in self._said

    def note(self, attempt_id: str, reason: str) -> None:
        """Remember what was said of an attempt."""
        self._said[attempt_id] = reason
        while len(self._said) > WARNINGS_MAX:
            self._said.popitem(last=False)

    def take(self, attempt_id: str) -> str | None:
        """Give what was said of an attempt that has come, once."""
        return self._said.pop(attempt_id, None) if self._said else None


class Attempts:
    """The attempts of a worker: orders that it `held`, what their chains have come to, and what it did lately."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.chained: dict[str, Held] = {}
        self.recent = Recent()
        self.interrupted, self.unchained = Warnings(), Warnings()

    def find(self, attempt_id: str) -> Held | None:
        """Give what is held of an attempt: its order, or the one whose chain has come to it."""
        return self.held.get(attempt_id) or self.chained.get(attempt_id)

    def free(self, attempt_id: str) -> bool:
        """Tell whether nobody here performs an attempt, has performed it, or was told to stop it."""
        here = attempt_id in self.held or attempt_id in self.chained or attempt_id in self.recent
        return not here and attempt_id not in self.interrupted

    def known(self, order: WorkOrder) -> Held | Done | None:
        """Give what there is of an order that came before: its result, if that was sent. Raises for one that differs.

        What a chain came to by itself is no order. Where the step before it was done again and gave something else, its
        owner orders the same attempt with other arguments: it counts, and what the chain read is forgotten.
        """
        held, done = self.find(order.attempt_id), self.recent.get(order.attempt_id)
        before = held.digest(order.attempt_id) if held else done.arguments_digest if done else None
        if before is None:
            return None
        if before != order.arguments_digest:
            if held is None and done is not None and done.chained:
                self.recent.forget(order.attempt_id)
                return None
            message = f"attempt {order.attempt_id} came again with other arguments"
            raise RefusedOrderError(REPLAY, message)
        return done if done is not None and (held is None or held.chain is not None) else held

    def unchain(self, held: Held) -> None:
        """Forget what a chain that is over has come to."""
        for attempt_id in held.chain.attempts if held.chain is not None else ():
            self.chained.pop(attempt_id, None)


class Tally:
    """How many attempts ended, and how."""

    def __init__(self) -> None:
        self.done = self.failed = self.cancelled = 0

    def count(self, report: ReportAttempt) -> None:
        """Count one."""
        if report.status == AttemptStatus.SUCCEEDED:
            self.done += 1
        elif report.status == AttemptStatus.CANCELLED:
            self.cancelled += 1
        else:
            self.failed += 1
