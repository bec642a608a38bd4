"""The shape of every pure core: decide, evolve, react, outstanding, explain (pure).

A room is a decider and its projections, for one log. The owner host loads state, feeds commands, appends events, and
only then lets effects, answers and acks out. The core never waits, never reads a clock, never draws a number: time,
ids and outside answers arrive inside commands or as arguments.

    decide(state, command, context) -> events | Rejection     what happens; reads state only
    evolve(state, event, at)        -> state                  remembers it; owns state, may update it in place
    react(state, event)             -> effects                what this event sets going
    outstanding(state, now)         -> effects                everything that should be under way now
    explain(state)                  -> reasons                why it is not moving

After a command's events the host sends `Advance` until it yields none, so that inline steps run in the same batch.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, final

import msgspec

from headrace import codec
from headrace.codec import Raw
from headrace.envelope import Message
from headrace.errors import HeadraceError
from headrace.events.base import SYSTEM, Actor, Event
from headrace.wire import EndChain, Interrupt, WorkOrder


@final
class Rejection(msgspec.Struct, frozen=True):
    """A refusal as a value, with the error that its caller meets."""

    error: HeadraceError


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What surrounds a command: the owner's time (ms), who sent it, where, and the stream it is for."""

    now: int
    stream_id: str
    workspace: str
    actor: Actor = SYSTEM
    key: str | None = None


class MissingError(Exception):
    """A decision needs outside material first: blobs by digest. The host fetches them and decides again."""

    def __init__(self, digests: Iterable[str]) -> None:
        super().__init__()
        self.digests = tuple(digests)


@final
class Dispatch(msgspec.Struct, frozen=True):
    """Effect: give an attempt to a worker of its pool; `queue_until` (ms) is when its time to wait for one is over.

    With `held_by` that worker has begun it already, within a chain: it is looked after like any, but not sent. Its
    stream is woken when a worker says that it performs it if it `waits` for that, or was told that nobody does.
    """

    order: WorkOrder
    priority: int = 0
    queue_until: int | None = None
    held_by: str = ""
    waits: bool = False


@final
class Tell(msgspec.Struct, frozen=True):
    """Effect: send a command to another stream's inbox, again until its receipt is on record.

    Without a `workspace` it is for the stream whatever that one's is. `bodies` are blobs that the command names: they
    are stored before it is sent.
    """

    log: str
    stream_id: str
    command: Message
    workspace: str
    bodies: Mapping[str, bytes] = {}


class Stop(msgspec.Struct, frozen=True):
    """Effect: reach an attempt that is under way, or still queued, and end it; `confirm`: say so if nobody holds it."""

    interrupt: Interrupt
    pool: str = ""
    confirm: bool = False


class Unchain(msgspec.Struct, frozen=True):
    """Effect: let an attempt go on, but nothing begin after it in its chain."""

    end: EndChain
    pool: str


@final
class Keep(msgspec.Struct, frozen=True):
    """Effect: store blobs by digest with the event that names them."""

    bodies: Mapping[str, bytes]


Effect = Dispatch | Tell | Stop | Unchain | Keep


class Row(msgspec.Struct, frozen=True):
    """A projection row: its table, and the columns by name (the key columns among them)."""

    table: str
    columns: dict[str, Any]


class Laid(msgspec.Struct, frozen=True, gc=False):
    """A projection row as it is kept, laid out by its room: for the tables that are written with nearly every event.

    `kinds` are the table's columns, in whose order the values are: documents as text, every text storable. `stands`: an
    earlier append kept the row, and only columns that its table names as `moving` can differ from it.
    """

    table: str
    values: tuple[Any, ...]
    kinds: Mapping[str, str]
    stands: bool = False

    @property
    def columns(self) -> dict[str, Any]:
        """Give the values by column, documents decoded."""
        return {
            name: codec.loads(value) if kind == "json" and value is not None else value
            for (name, kind), value in zip(self.kinds.items(), self.values, strict=True)
        }


AnyRow = Row | Laid


class Reason(msgspec.Struct, frozen=True):
    """Why something is not moving, in one sentence, and what would move it."""

    waiting_for: str
    message: str
    remedy: str
    step: str | None = None
    until: int | None = None


class Room[State, Command, Kind: Event](Protocol):
    """A pure core and its projections, as the owner host runs it. One instance serves a process; it keeps no state.

    `format` keeps older code from claiming what newer code wrote. `fingerprint` is the hash of evolve and upcasters:
    snapshots written under another one are ignored. A room whose streams end and begin anew under the same address says
    `renews`, and by `heir(state)` the events with which the next one begins in the same append.
    """

    log: ClassVar[str]
    format: ClassVar[int]
    fingerprint: str

    def initial(self, stream_id: str, workspace: str) -> State:
        """Give the state of a stream without events."""
        ...

    def exists(self, state: State) -> bool:
        """Tell whether the stream has any event."""
        ...

    def read_command(self, data: Raw | bytes) -> Command:
        """Decode a command; raises msgspec.ValidationError or DecodeError, upon which it is parked or refused."""
        ...

    def decide(self, state: State, command: Command, context: Context) -> Sequence[Kind] | Rejection:
        """Say what happens. Reads state only. An empty sequence: it is already so."""
        ...

    def evolve(self, state: State, event: Kind, at: int) -> State:
        """Remember an event that happened at `at`. May update the state it owns in place."""
        ...

    def react(self, state: State, event: Kind) -> Iterable[Effect]:
        """Say what an event sets going, given the state after it."""
        ...

    def receipts(self, state: State, command: Command, context: Context) -> Iterable[Effect]:
        """Say what a command earns whether or not it made events: the receipt that ends an asker's repeating.

        Called with the state after the command (also after a repeat, also on a finished stream); sent after commit.
        """
        ...

    def outstanding(self, state: State, now: int) -> Iterable[Effect]:
        """Say everything that should be under way now: what a new owner, or a repair, sets going again."""
        ...

    def explain(self, state: State) -> Sequence[Reason]:
        """Say why the stream is not moving."""
        ...

    def wake_at(self, state: State) -> int | None:
        """Give the earliest time at which the stream wants a `Wake`; repeats of a `Tell` without receipt among them.

        A room may also say `wake_after(state, now)`, the earliest time later than `now`: what is overdue because a
        receipt is missing is put off longer and longer, and must not put that off.
        """
        ...

    def finished(self, state: State) -> bool:
        """Tell whether the stream is over: it needs no cache and no wake-up."""
        ...

    def rows(self, state: State, events: Sequence[Kind] | None) -> Iterable[AnyRow]:
        """Give the projection rows that `events` changed, or all of the stream's when None (a rebuild).

        Rows follow from the state alone, so that live and rebuilt are equal byte for byte.
        """
        ...

    def attachments(self, command: Command) -> Mapping[str, bytes]:
        """Give blobs by digest that must be stored with this command's events (a plan's body)."""
        ...

    def answer(self, state: State, command: Command) -> object:
        """Give the body that the caller of a command meets after commit."""
        ...

    def snapshot(self, state: State) -> bytes:
        """Write the state for the snapshot cache."""
        ...

    def restore(self, data: bytes) -> State:
        """Read a snapshot back."""
        ...


class Library(Protocol):
    """Content by digest. Content-addressed, so reading it is as pure as reading a constant."""

    def body(self, digest: str) -> bytes:
        """Give the bytes that a `sha256:` digest names; raises MissingError when they must be fetched first."""
        ...


class Preparer(Protocol):
    """The shell beside a room: brings outside answers into commands before they are decided."""

    async def prepare(self, command: Any, context: Context) -> Any:
        """Give the command to decide, with what the decision needs from outside; raises HeadraceError to refuse it.

        A compile's result comes in so, and whether a plan's digest is authorised.
        """
        ...
