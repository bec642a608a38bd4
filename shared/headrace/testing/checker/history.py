"""What a harness writes down while it breaks things: what clients asked, what reached the outside, what readers saw.

The checker holds these against the log. Times are milliseconds since 1970.
"""

from collections import Counter

import msgspec


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One command of a client. `status` is the HTTP one of its answer; None: nobody answered, so nothing is promised.

    `kind` is the command's tag (`create_run`, `cancel_run`, `decide`, …), `stream_id` the stream that the answer names
    (of a create: the new run), `answer` the body's bytes; equal `key`s must have met equal answers.
    """

    kind: str
    log: str
    at: int
    status: int | None = None
    key: str | None = None
    stream_id: str | None = None
    actor: str = ""
    answer: bytes = b""


class Acted(msgspec.Struct, frozen=True, kw_only=True):
    """One call that reached the outside ledger; `applied`: it took effect there (a repeat of a known key does not).

    `by_key` tells whether this outside knows idempotency keys; if not, every call takes effect.
    """

    key: str
    tool: str
    run_id: str
    attempt_id: str
    at: int
    applied: bool
    by_key: bool


class Reading(msgspec.Struct, kw_only=True):
    """What one reader was given of one place, in order: positions of a partition, or (`stream_id`) versions of a stream.

    `whole`: the reader went on to the end, so that nothing may lack.
    """

    reader: str
    log: str
    partition: int = 0
    stream_id: str | None = None
    seen: list[int] = []
    whole: bool = True


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What a process used at a moment: `idle` tells that it had nothing to do since the sample before."""

    process: str
    at: int
    rss_bytes: int = 0
    tasks: int = 0
    handles: int = 0
    cpu_s: float = 0.0
    idle: bool = False


class History(msgspec.Struct):
    """Everything that was written down. `planned` and `fired` count faults, and branches that must have run, by name."""

    asked: list[Asked] = []
    acted: list[Acted] = []
    readings: list[Reading] = []
    samples: list[Sample] = []
    planned: Counter[str] = msgspec.field(default_factory=Counter)
    fired: Counter[str] = msgspec.field(default_factory=Counter)

    def missing(self) -> list[str]:
        """Name the planned faults and branches that never were: with any of them the round proves nothing."""
        return sorted(name for name, count in self.planned.items() if count and not self.fired[name])


class Finding(msgspec.Struct, frozen=True):
    """A promise that was not kept: which invariant, and what was seen. `stream_id` says where."""

    invariant: str
    message: str
    stream_id: str = ""

    def __str__(self) -> str:
        where = f" [{self.stream_id}]" if self.stream_id else ""
        return f"{self.invariant}: {self.message}{where}"
