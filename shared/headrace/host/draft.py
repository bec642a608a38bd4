"""A draft: everything that one append will commit, and all that waits until it is."""

from functools import cache, lru_cache
from typing import Any

import msgspec

from headrace import codec
from headrace.decider import AnyRow, Effect
from headrace.errors import HeadraceError, NotFoundError
from headrace.events.base import ErrorInfo, Event
from headrace.host.failures import PoisonError
from headrace.host.items import Item, Origin
from headrace.host.tenure import Held, Stream
from headrace.log.port import Batch, KeptAnswer, NewEvent, Parked
from headrace.messages import Answer, ClaimWrite, LoseAttempt, ReportAttempt
from headrace.vocabulary import BATCH_EVENTS_MAX, MESSAGE_BYTES_MAX
from headrace.wire import ClaimGrant

DRAFT_ITEMS_MAX = 400
DRAFT_EVENTS_MAX = 4_000
ERROR_BYTES_MAX = MESSAGE_BYTES_MAX // 2
"""An error that takes more is answered without its details: no message would carry it."""


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an event's `meta` says: who caused it, by which command, under which key and trace."""

    actor: dict[str, str]
    cause: str
    key: str | None = None
    traceparent: str | None = None


class Ended(msgspec.Struct, frozen=True):
    """A worker's word, or one about it, by which an attempt is not under way, or not yet: nobody looks after it."""

    command: ReportAttempt | LoseAttempt


class Sent(msgspec.Struct, frozen=True):
    """What is on its way out, in its order: an attempt that ended may be ordered behind that, or have been before.

    `suspect`: an order that may be out already, from the tenure before.
    """

    effect: Effect | Ended
    suspect: bool = False


class End(msgspec.Struct, frozen=True):
    """How a stream stands at the end of a draft: when it wants to be woken, and whether it is over.

    `next_at` is what it wants after what is overdue.
    """

    stream: Stream
    wake_at: int | None
    finished: bool
    woken: bool
    changed: bool
    next_at: int | None = None


class Part(msgspec.Struct, eq=False):
    """What one partition commits and lets out.

    `trace` is that of the item which is decided now; `accepted` counts the commands of others that were not refused.
    """

    held: Held
    events: list[NewEvent] = []
    rows: list[AnyRow] = []
    answers: list[KeptAnswer] = []
    blobs: dict[str, bytes] = {}
    items: list[Item] = []
    effects: list[Sent] = []
    changed: dict[str, tuple[Stream, list[Event]]] = {}
    touched: dict[str, Stream] = {}
    parked: list[Parked] = []
    ends: dict[str, End] = {}
    trace: str | None = None
    dispatched: set[str] = set()
    accepted: int = 0

    def batch(self) -> Batch:
        """Give what the log is asked to commit."""
        return Batch(
            log=self.held.log,
            partition=self.held.partition,
            epoch=self.held.epoch,
            expected_position=self.held.position,
            events=self.events,
            rows=self.rows,
            answers=self.answers,
            blobs=self.blobs,
        )


class Draft(msgspec.Struct, eq=False):
    """The open batch of a process. `later` goes on in the next one, behind other streams.

    Once `void`, nothing more is decided into it: its items are decided again elsewhere.
    """

    number: int
    parts: dict[tuple[str, int], Part] = {}
    items: list[Item] = []
    later: list[Item] = []
    emitted: dict[str, int] = {}
    events: int = 0
    alone: bool = False
    void: bool = False

    @property
    def room_left(self) -> int:
        """Give how many more items it takes."""
        return 0 if self.events >= DRAFT_EVENTS_MAX else max(DRAFT_ITEMS_MAX - len(self.items), 0)

    def part(self, held: Held) -> Part:
        """Give the part of a partition."""
        part = self.parts.get(held.place)
        if part is None or part.held is not held:
            part = self.parts[held.place] = Part(held)
        return part

    def exhausted(self, stream_id: str) -> bool:
        """Tell whether a stream has emitted what it may in one batch."""
        return self.emitted.get(stream_id, 0) >= BATCH_EVENTS_MAX

    def emit(self, stream_id: str, count: int) -> None:
        """Count events and effects of a stream."""
        self.emitted[stream_id] = self.emitted.get(stream_id, 0) + count


@cache
def name_of(kind: type[Event]) -> str:
    """Give the name of a kind of events in the log."""
    return kind.type_name()


def meta_of(item: Item) -> bytes:
    """Give the meta of the events that an item causes."""
    if item.key is None and item.traceparent is None:
        return _plain_meta(item.actor.id, item.actor.name, item.cause)
    return codec.encode(Meta({"id": item.actor.id, "name": item.actor.name}, item.cause, item.key, item.traceparent))


@lru_cache(maxsize=1_024)
def _plain_meta(actor_id: str, name: str, cause: str) -> bytes:
    return codec.encode(Meta({"id": actor_id, "name": name}, cause))


def refusal_of(stream: Stream, item: Item) -> HeadraceError | None:
    """Give what keeps an item from being decided; raises PoisonError for one that cannot be."""
    if isinstance(item.refusal, PoisonError):
        raise item.refusal
    if item.refusal is not None:
        return item.refusal
    if item.workspace is not None and item.workspace != stream.workspace and stream.version > 0:
        return NotFoundError(f"there is no {item.stream_id}")
    return None


def refused(item: Item, error: HeadraceError) -> bytes:
    """Make the answer that refuses an item."""
    if item.origin is Origin.CLAIM:
        nonce = item.command.nonce if isinstance(item.command, ClaimWrite) else ""
        return codec.encode(ClaimGrant(granted=False, nonce=nonce, reason=error.message))
    return error_answer(error, None if item.created else item.stream_id)


def error_answer(error: HeadraceError, stream_id: str | None = None) -> bytes:
    """Make an answer that carries an error."""
    known = error.envelope()
    info = ErrorInfo(type=known["type"], message=known["message"], plugin=known["plugin"])
    details: Any = error.details
    if details:
        answer = Answer(status=error.status, stream_id=stream_id, error=msgspec.structs.replace(info, details=details))
        written = codec.dumps(answer)
        if len(written) <= ERROR_BYTES_MAX:
            return written
        info = msgspec.structs.replace(info, details={"left_out_bytes": len(written)})
    return codec.dumps(Answer(status=error.status, stream_id=stream_id, error=info))


def printable(text: str) -> str:
    """Write a text so that every store keeps it."""
    return text.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()


def parked(item: Item, problem: BaseException, now_ms: int) -> Parked:
    """Write down a message that cannot be processed."""
    return Parked(
        source=f"{item.held.log}/{item.held.partition}/{item.origin.name.lower()}/{item.cause}",
        error=printable(str(problem)),
        body=item.body or codec.dumps(item.command),
        at=now_ms,
        stream_id=item.stream_id,
    )
