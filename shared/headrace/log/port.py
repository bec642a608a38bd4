"""What a log can do: the contract that Postgres and its memory twin are held to by one suite."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from headrace.decider import AnyRow
from headrace.errors import HeadraceError
from headrace.wire import Line


class DataError(HeadraceError):
    """The store refuses this data (not the connection, not the fence): decide one message an append, park what fails."""

    type = "validation_error"


class After(msgspec.Struct, frozen=True):
    """Where a list of rows goes on: the row before it, by its last key column and by what the rows are ordered by."""

    key: str
    value: str | int | bool | None


class NewEvent(msgspec.Struct, frozen=True):
    """An event to append: its stream, its version there (from 1), and the bytes that are hashed and stored."""

    stream_id: str
    version: int
    type: str
    schema: int
    workspace: str
    at: int
    data: bytes
    meta: bytes


class Recorded(msgspec.Struct, frozen=True):
    """An event of the log."""

    log: str
    partition: int
    position: int
    stream_id: str
    version: int
    type: str
    schema: int
    workspace: str
    at: int
    data: bytes
    meta: bytes


class KeptAnswer(msgspec.Struct, frozen=True):
    """What a command under an idempotency key was answered; another `request_digest` under the key is a conflict."""

    key: str
    request_digest: str
    stream_id: str
    answer: bytes


class Batch(msgspec.Struct, kw_only=True):
    """Everything one partition commits at once. Without events it only confirms that the epoch still stands.

    `expected_position` is the partition's last position as the owner knows it. Rows are upserts by their table's key.
    """

    log: str
    partition: int
    epoch: int
    expected_position: int
    events: list[NewEvent] = []
    rows: list[AnyRow] = []
    answers: list[KeptAnswer] = []
    blobs: dict[str, bytes] = {}


class Appended(msgspec.Struct, frozen=True):
    """What became of an append: new last positions by (log, partition), and the partitions whose fence refused.

    Not None, `kept` says that nothing at all was written, because of keys of the batches that were answered before: their
    answers by (log, partition, key), as far as still kept.
    """

    positions: dict[tuple[str, int], int]
    stale: tuple[tuple[str, int], ...] = ()
    kept: dict[tuple[str, int, str], KeptAnswer] | None = None


class Tenure(msgspec.Struct, frozen=True):
    """A partition that this owner holds: its epoch and last position. A new epoch means: drop all cached state."""

    log: str
    partition: int
    epoch: int
    last_position: int


class Holdings(msgspec.Struct, frozen=True):
    """The answer to a heartbeat: what this owner holds now, when the lease ends, and the database's time (ms)."""

    tenures: tuple[Tenure, ...]
    database_now: int
    owners: int
    surplus: tuple[tuple[str, int], ...] = ()
    """Partitions over this owner's fair share: drain them, then `release`."""


class History(msgspec.Struct, frozen=True):
    """What is needed to make a stream's state: perhaps a snapshot, and the events after it."""

    events: tuple[Recorded, ...]
    snapshot: bytes | None = None
    snapshot_version: int = 0


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """A message that alone could not be processed: kept with its error, shown by `headrace doctor`."""

    source: str
    error: str
    body: bytes
    at: int
    id: int = 0
    stream_id: str | None = None


class KeptLine(msgspec.Struct, frozen=True):
    """A stored line; `id` grows in the order in which a run's lines became readable, and is the reader's cursor."""

    id: int
    line: Line


class Due(msgspec.Struct, frozen=True):
    """A stream that wants a `Wake` at a time."""

    stream_id: str
    wake_at: int


class Break(msgspec.Struct, frozen=True):
    """The first place where the chain of a partition does not hold."""

    log: str
    partition: int
    position: int
    reason: str


class OwnerLog(Protocol):
    """What owners use: the one way to write, fenced by epochs."""

    async def heartbeat(
        self, owner: str, formats: Mapping[str, int], *, lease_s: float, ended: Callable[[], None] | None = None
    ) -> Holdings:
        """Renew this owner's leases on the database's clock and claim a fair share of what is free or lapsed.

        The owner is taken for gone, whatever its lease says, by whoever beats after the session has ended on which it beat
        last: so it is with the death of its process. Should the session end otherwise, `ended` is called: beat again at
        once.
        `formats` names the logs this owner can hold and the newest format it understands. Raises UnavailableError,
        and DatabaseVersionError when the database is not the one that was migrated (another incarnation).
        """
        ...

    async def release(self, owner: str, partitions: Sequence[tuple[str, int]]) -> None:
        """Give partitions back at once, for another owner to claim."""
        ...

    async def append_events(self, batches: Sequence[Batch]) -> Appended:
        """Commit all batches in one round trip; stale partitions are named and do not fail the others.

        An answer is kept under its key for IDEMPOTENCY_KEPT_S. While it is, an append that brings another under the same
        key, in a partition that is not stale, writes nothing and gives what is kept.
        Raises DataError when the store refuses the data, UnavailableError when the outcome is not known: the tenure
        of every partition concerned is then over (reclaim before going on).
        """
        ...

    async def histories(self, log: str, fingerprint: str, stream_ids: Sequence[str]) -> dict[str, History]:
        """Read what makes the state of streams; snapshots of another fingerprint are ignored."""
        ...

    async def uses(self, log: str, addresses: Sequence[str]) -> dict[str, str]:
        """Name, by address, the streams that are not over of a log whose streams begin anew now and then."""
        ...

    async def answers(self, keys: Sequence[tuple[str, int, str]]) -> dict[tuple[str, int, str], KeptAnswer]:
        """Read what was answered under idempotency keys (log, partition, key), as far as kept, in one round trip."""
        ...

    async def due(
        self, log: str, partitions: Sequence[int], until: int, limit: int, after: Due | None = None
    ) -> list[Due]:
        """Read streams with `wake_at` up to `until` (ms), the earliest first, or those that follow on `after`."""
        ...

    async def busy(self, log: str, partition: int) -> list[str]:
        """Read the streams of a partition that have something outstanding, for a new owner."""
        ...

    async def keep_snapshots(self, log: str, fingerprint: str, snapshots: Mapping[str, tuple[int, bytes]]) -> None:
        """Write snapshots (version, bytes) to the disposable cache."""
        ...

    async def park(self, parked: Parked) -> None:
        """Keep a message that could not be processed."""
        ...


class BlobStore(Protocol):
    """Bodies by `sha256:` digest."""

    async def put_blob(self, digest: str, body: bytes, workspace: str | None = None) -> None:
        """Keep a body, as one of a workspace; again is nothing. Raises ValidationError for another body's digest.

        The same body of two workspaces is kept once and belongs to both.
        """
        ...

    async def blobs_of(self, workspace: str, digests: Sequence[str]) -> set[str]:
        """Tell which of these bodies were put as the workspace's own."""
        ...

    async def get_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Give the bodies that are known."""
        ...


class ReadLog(Protocol):
    """What readers use: events in order, and projections."""

    async def read(self, log: str, partition: int, after: int, limit: int) -> list[Recorded]:
        """Read a partition's events after a position, in order and without gaps."""
        ...

    async def stream(self, log: str, stream_id: str, after_version: int = 0, limit: int = 1_000) -> list[Recorded]:
        """Read one stream's events after a version."""
        ...

    async def row(self, table: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Read one projection row by its key."""
        ...

    async def rows(
        self,
        table: str,
        where: Mapping[str, Any],
        *,
        order: str = "id",
        descending: bool = True,
        after: str | After | None = None,
        limit: int = 20,
    ) -> list[dict[str, Any]]:
        """Read projection rows whose columns equal `where`, in order, after a cursor.

        A sequence means any of; for a column of documents, a mapping means those that have all these texts by name.
        A cursor is the last key column of the row before; in any other order than by that column, an `After`. Rows go
        on from there whether that row still stands, has moved, or is gone.
        """
        ...

    async def count(self, table: str, where: Mapping[str, Any]) -> int:
        """Count projection rows as `rows` finds them."""
        ...

    async def partitions(self) -> list[dict[str, Any]]:
        """Read who holds which partition until when, for `headrace doctor`."""
        ...

    async def parked(self, limit: int = 100, wanted: Sequence[int] | None = None) -> list[Parked]:
        """Read what was parked, the newest first; only those of `wanted` ids, if any are named."""
        ...

    async def dismiss_parked(self, parked: Sequence[int]) -> list[int]:
        """Let parked messages go that somebody has seen to; give the ids of those that were there, ascending."""
        ...


class LineStore(Protocol):
    """What steps print: telemetry, neither chained nor an event."""

    async def put_lines(self, lines: Sequence[Line]) -> int:
        """Keep lines, unique by attempt and sequence; tells how many were new."""
        ...

    async def read_lines(self, run_id: str, after: int = 0, limit: int = 1_000) -> list[KeptLine]:
        """Read a run's lines after a `KeptLine.id`, in the order in which they were kept."""
        ...


class KeyStore(Protocol):
    """Answers to what nobody decides who has a log, by idempotency key."""

    async def keep_answer(self, log: str, partition: int, answer: KeptAnswer) -> KeptAnswer | None:
        """Keep an answer under its key for IDEMPOTENCY_KEPT_S; None when it is kept now, else what is kept already.

        An empty answer stands for one that is yet to come: another of the same request takes its place.
        """
        ...


class Log(OwnerLog, BlobStore, ReadLog, LineStore, KeyStore, Protocol):
    """A whole log."""

    incarnation: str

    def verify(self) -> AsyncIterator[Break | tuple[str, int, int]]:
        """Walk every chain: yields (log, partition, last position) for each that holds, a Break for each that does not."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
