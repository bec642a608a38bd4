"""Identifiers: TypeIDs over UUIDv7 that carry the partition of their stream (pure).

A TypeID (https://github.com/jetify-com/typeid) is `prefix_` followed by 26 characters of Crockford base32 over a
128-bit UUID. Ours is a UUIDv7 (RFC 9562): 48 bits of milliseconds, so ids sort by time and tell their month, and in
the last byte the partition, so that everybody who holds an id knows which owner to ask.
"""

import hashlib
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from headrace.errors import ValidationError
from headrace.vocabulary import LOG_FLOW, LOG_PARTITIONS

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
AS_BASE_32: Final = str.maketrans(ALPHABET, "0123456789abcdefghijklmnopqrstuv")
"""The letters by which Python writes the digits to the base of 32."""
SUFFIX: Final = re.compile(f"[0-7][{ALPHABET}]{{25}}")
SUFFIX_CHARS: Final = 26
PAIRS: Final = tuple(one + other for one in ALPHABET for other in ALPHABET)
"""Two letters at a time: this is written for every attempt."""
SHIFTS: Final = tuple(range(120, -1, -10))
TIME_PAIRS: Final = 5
"""The pairs of letters that an id's time takes: all that were made in one millisecond begin with them."""
PARTITIONS_MAX: Final = 256
NOT_TIME: Final = (1 << 80) - 1
"""The bits of an id that are not its time: its last 16 characters."""
DAY_S: Final = 86_400
DAY_MS: Final = 1_000 * DAY_S
TIMELESS_MS: Final = 0
"""Time part of streams that never end (the catalogue): they live in a month of their own that never detaches."""

RUN: Final = "run"
ATTEMPT: Final = "att"
APPROVAL: Final = "apr"
ARTIFACT: Final = "art"
TOKEN: Final = "tok"  # noqa: S105  (the prefix of an id, no secret)
WORKER: Final = "wrk"
REQUEST: Final = "req"
FLOW: Final = "flw"
WORKFLOW: Final = "wfl"
PLAN: Final = "pln"
TOOL: Final = "tol"
CONNECTION: Final = "con"
PERMIT: Final = "prm"


def uuid7(now_ms: int, entropy: bytes, partition: int) -> int:
    """Lay out a UUIDv7: `now_ms` since 1970, 9 bytes of `entropy`, and the partition in the last byte."""
    if not 0 <= partition < PARTITIONS_MAX:
        message = f"partition {partition} is outside 0..{PARTITIONS_MAX - 1}"
        raise ValidationError(message)
    noise = int.from_bytes(entropy[:9], "big")
    rand_a = noise & 0xFFF
    rand_b = (noise >> 12) & ((1 << 54) - 1)
    return (now_ms & ((1 << 48) - 1)) << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b << 8 | partition


def text(prefix: str, number: int) -> str:
    """Write a 128-bit number as a TypeID."""
    return f"{prefix}_{''.join([PAIRS[number >> shift & 1_023] for shift in SHIFTS])}"


def make(prefix: str, now_ms: int, entropy: bytes, partition: int = 0) -> str:
    """Make a TypeID from a time and entropy that the caller brings."""
    return text(prefix, uuid7(now_ms, entropy, partition))


def derive(prefix: str, now_ms: int, partition: int, *parts: str) -> str:
    """Make the TypeID that the same parts always give: for request ids, attempts and repeats."""
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()
    number = uuid7(now_ms, digest, partition)
    return _beginning(prefix, number >> 80) + "".join([PAIRS[number >> shift & 1_023] for shift in SHIFTS[TIME_PAIRS:]])


@lru_cache(maxsize=4_096)
def _beginning(prefix: str, time: int) -> str:
    """Write what ids of one kind and time begin with: an owner derives many ids of each run."""
    return f"{prefix}_{''.join([PAIRS[time << 80 >> shift & 1_023] for shift in SHIFTS[:TIME_PAIRS]])}"


@lru_cache(maxsize=65_536)
def number(type_id: str) -> int:
    """Read a TypeID back to its 128-bit number; raises ValidationError when it is none."""
    _, _, suffix = type_id.rpartition("_")
    if SUFFIX.fullmatch(suffix) is not None:
        return int(suffix.translate(AS_BASE_32), 32)
    if len(suffix) != SUFFIX_CHARS or suffix[0] > "7":
        message = f"{type_id!r} is not an id: expected a prefix, '_' and {SUFFIX_CHARS} characters"
    else:
        message = (
            f"{type_id!r} is not an id: {next(each for each in suffix if each not in ALPHABET)!r} does not occur in one"
        )
    raise ValidationError(message)


def partition_of(type_id: str) -> int:
    """Tell the partition that a stream belongs to."""
    return number(type_id) & 0xFF


def millis_of(type_id: str) -> int:
    """Tell when an id was made, in milliseconds since 1970."""
    return number(type_id) >> 80


def month_of(type_id: str) -> int:
    """Tell the month a stream was created in, as yyyymm (197001 for streams that never end).

    Raises ValidationError for what is no id, and for one whose time no calendar has.
    """
    try:
        return _month_of_day(millis_of(type_id) // DAY_MS)
    except (ValueError, OverflowError) as problem:
        message = f"{type_id!r} is not an id: its time is beyond the year 9999"
        raise ValidationError(message) from problem


@lru_cache(maxsize=1_024)
def _month_of_day(day: int) -> int:
    at = datetime.fromtimestamp(day * DAY_S, UTC)
    return at.year * 100 + at.month


def month_text(month: int) -> str:
    """Write a month as people read it: 202601 is `2026-01`."""
    return f"{month // 100:04}-{month % 100:02}"


def partition_for(partitions: int, *parts: str) -> int:
    """Route a create, which has no id yet, by what identifies it (workspace and idempotency key)."""
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % partitions


@lru_cache(maxsize=1_024)
def definition(kind: str, workspace: str, name: str) -> str:
    """Make the stream id of a definition in the catalogue: the same name always meets the same stream."""
    return derive(kind, TIMELESS_MS, 0, kind, workspace, name)


def flow_key(workspace: str, kind: str, key: str) -> str:
    """Make the stream id of a key that many runs share: everybody who means the key asks the same stream."""
    partition = partition_for(LOG_PARTITIONS[LOG_FLOW], workspace, kind, key)
    return derive(FLOW, TIMELESS_MS, partition, FLOW, workspace, kind, key)


def address(stream_id: str) -> str:
    """Name what a stream is one use of: streams that begin anew now and then are asked for by this id, at any time."""
    return text(stream_id.rpartition("_")[0], number(stream_id) & NOT_TIME)


def use(name: str, now_ms: int) -> str:
    """Make the id of the stream in which what has this address is used from `now_ms` on: it tells its month."""
    return text(name.rpartition("_")[0], (now_ms & ((1 << 48) - 1)) << 80 | number(name) & NOT_TIME)


def instance(step: str, index: int | None, iteration: int = 0) -> str:
    """Write a step instance as people read it: `symbols[3]` for an item of a map, `fix#2` in a loop's second round."""
    round_ = f"#{iteration}" if iteration else ""
    return f"{step}{round_}" if index is None else f"{step}{round_}[{index}]"
