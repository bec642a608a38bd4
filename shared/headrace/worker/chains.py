"""Chains: steps that one order brings, performed one after the other in one slot, their results sent together.

Each is an attempt like any: ToolRunner performs it, beats name it, it can be stopped. What is saved is the way: no order
for each step, and one message for many results. A result is kept back FUSE_SEND_S at most. The chain ends with the first
step that does not succeed, or whose arguments cannot be made: its owner meets the same problem and says so.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from headrace import codec
from headrace.clock import Clock
from headrace.codec import NULL, Raw
from headrace.errors import StepError, ValidationError
from headrace.expressions.template import Template, template
from headrace.messages import ReportAttempt
from headrace.vocabulary import FUSE_S, FUSE_SEND_S, AttemptStatus, Effect
from headrace.wire import FusedStep, WorkOrder
from headrace.worker.done import Done, Recent
from headrace.worker.holdings import Holdings
from headrace.worker.outbox import Outbox

SEND_BYTES_MAX: Final = 512 * 1024
"""Results that are sent together; what is beyond follows in a message of its own."""
REPORT_BYTES: Final = 1_024
"""What a report takes beside what its tool gave, where that left no artifacts and named a short source."""
SOURCE_CHARS: Final = 100
YIELD_S: Final = 0.005
"""After this a chain of tools that never wait lets others have the loop."""
TEMPLATES_MAX: Final = 4_096
SUCCEEDED: Final = AttemptStatus.SUCCEEDED.value
"""What templates read as the status of a step that succeeded."""


class ChainScope:
    """What templates of a chain may read: what came with the order, and the results so far. Decoded when it is read."""

    def __init__(self, given: Raw) -> None:
        self._given: dict[str, dict[str, Any]] = codec.loads(given) or {}
        self._written: dict[str, Raw] = {}
        self._read: dict[str, Mapping[str, Any]] = {}

    def add(self, step_id: str, output: Raw) -> None:
        """Take in what a step of the chain gave."""
        self._written[step_id] = output

    def root(self, name: str) -> Any:
        """Give a root other than `steps`; raises KeyError."""
        return self._given["roots"][name]

    def step(self, step_id: str) -> Mapping[str, Any]:
        """Give what expressions may read of a step; raises KeyError."""
        known = self._read.get(step_id)
        if known is None:
            written = self._written.get(step_id)
            if written is None:
                outside: Mapping[str, Any] = self._given["steps"][step_id]
                return outside
            output = codec.loads(written)
            known = self._read[step_id] = {"output": output, "status": SUCCEEDED, "error": None}
        return known


class Chain:
    """The chain of one order, from its beginning until its last result is on the bus. `settled` is called then.

    `free` tells whether an attempt is nobody's yet, and was not told to stop before it began. `attempts` are those that were begun, with the digests of their arguments; `cut` lets it end after what is performed
    now.
    """

    def __init__(
        self,
        order: WorkOrder,
        outbox: Outbox,
        holdings: Holdings,
        recent: Recent,
        clock: Clock,
        free: Callable[[str], bool],
        settled: Callable[[], None],
    ) -> None:
        self._outbox, self._holdings, self._recent = outbox, holdings, recent
        self._clock, self._free, self._settled = clock, free, settled
        self._order = self._current = order
        self._like = msgspec.structs.replace(
            order, attempt=1, index=None, precondition=NULL, connection=NULL, evidence=NULL, evidence_blob=None,
            artifacts=NULL, arguments_blob=None, ready_at=0, bundles=False, chain=(), scope=NULL,
        )  # fmt: skip
        """What the orders of all its steps have in common."""
        self._left: deque[FusedStep] = deque(order.chain)
        self._scope = ChainScope(order.scope)
        self._began_s = self._yielded_s = self._now_s = clock.monotonic()
        self.after = ""
        """The step before the one that is performed now."""
        self._unsent: deque[ReportAttempt] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._sending = self._over = False
        self.performed_s: float | None = None
        self.attempts = {order.attempt_id: order.arguments_digest}
        self.cut = False

    def follow(self, report: ReportAttempt) -> WorkOrder | None:
        """Give the order of the step that follows a result, and begin it; None where the chain ends."""
        if self.cut or not self._left or report.status != AttemptStatus.SUCCEEDED or report.blob is not None:
            return None
        self._now_s = self._clock.monotonic()
        if self._now_s - self._began_s >= FUSE_S:
            return None
        step, before = self._left.popleft(), self._current
        self._scope.add(before.step, report.output)
        if step.effect != Effect.READ or not self._free(step.attempt_id):
            return None
        try:
            arguments = codec.raw(_template(bytes(step.arguments)).resolve(self._scope))
        except (StepError, ValidationError):
            return None
        self.after = before.step
        self._current = order = msgspec.structs.replace(
            self._like,
            attempt_id=step.attempt_id,
            step=step.step,
            kind=step.kind,
            tool=step.tool,
            arguments=arguments,
            arguments_digest=codec.sha256(arguments),
            manifest_digest=step.manifest_digest,
            effect=step.effect,
            idempotency_key=step.idempotency_key,
            timeout_s=step.timeout_s,
        )
        self.attempts[order.attempt_id] = order.arguments_digest
        self._holdings.taken(order, report.finished_at or 0, begun=True)
        return order

    @property
    def hogs(self) -> bool:
        """Tell whether this chain had the loop for long."""
        return self._now_s - self._yielded_s >= YIELD_S

    async def breathe(self) -> None:
        """Let others have the loop."""
        await asyncio.sleep(0)
        self._yielded_s = self._now_s = self._clock.monotonic()

    def keep(self, report: ReportAttempt) -> None:
        """Take a result to be sent soon."""
        self._unsent.append(report)
        if not self._sending:
            self._send_soon()

    def end(self, report: ReportAttempt, performed_s: float | None) -> None:
        """Take the last result, to be sent at once with all before it."""
        self._unsent.append(report)
        self._over, self.performed_s = True, performed_s
        self._send_now()

    def _send_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FUSE_SEND_S, self._send_now)

    def _send_now(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._unsent or self._sending:
            return
        self._sending = True
        results = self._taken()
        parcel = self._outbox.pack(self._order, self._joined(results))
        for place, each in enumerate(results):
            alone = each if place else None
            if alone is not None and alone.goes_on:
                alone = msgspec.structs.replace(alone, goes_on="")
            digest, chained = self.attempts[each.attempt_id], bool(each.after)
            done = Done(digest, parcel, len(results), alone, chained=chained)
            self._recent.keep(each.attempt_id, done)

        def arrived() -> None:
            parcel.sent = None  # the parcel is remembered, and need not hold this chain with all that it read
            self._arrived(results)

        parcel.sent = arrived
        self._outbox.put(parcel)

    def _arrived(self, results: list[ReportAttempt]) -> None:
        """Let go of what the bus has; what came meanwhile waits its time again, unless it is the end."""
        self._sending = False
        self._holdings.let_go(*[each.attempt_id for each in results])
        if self._unsent:
            if self._over:
                self._send_now()
            else:
                self._send_soon()
        elif self._over:
            self._settled()

    def _taken(self) -> list[ReportAttempt]:
        """Take as many results as one message may carry."""
        results = [self._unsent.popleft()]
        size = size_of(results[0])
        while self._unsent and (size := size + size_of(self._unsent[0])) <= SEND_BYTES_MAX:
            results.append(self._unsent.popleft())
        return results

    def _joined(self, results: list[ReportAttempt]) -> ReportAttempt:
        """Make one report of several, which says with what its worker goes on."""
        goes_on = "" if self._over else self._current.attempt_id
        if self._unsent:
            goes_on = self._unsent[0].attempt_id
        if goes_on:
            results[-1] = msgspec.structs.replace(results[-1], goes_on=goes_on)
        if len(results) == 1:
            return results[0]
        return msgspec.structs.replace(results[0], then=tuple(results[1:]))


def size_of(report: ReportAttempt) -> int:
    """Give about how many bytes a report takes."""
    found = report.evidence
    plain = not report.artifacts and (found is None or (len(found.source) <= SOURCE_CHARS and not found.next_cursor))
    return REPORT_BYTES + len(report.output) if plain else len(codec.encode(report))


@lru_cache(maxsize=TEMPLATES_MAX)
def _template(arguments: bytes) -> Template:
    """Read a template of a plan, which every run of the plan brings in the same bytes."""
    return template(codec.loads(arguments))
