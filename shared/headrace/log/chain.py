"""The hash chain of a partition: what is hashed, and how one append follows the other (pure).

The leaf of an event is sha256 over a header and its bytes, each text and each body led by its length, so that no two
different events have the same input:

    int8 position, int4 version, int4 schema, int8 at,
    then for stream id, type, workspace, data, meta: int4 length in bytes, bytes

Numbers are big-endian. One append writes one link: hash = sha256(hash of the link before it || its leaves in order);
the first follows 32 zero bytes. A verifier therefore needs stored bytes only: no decoding, no upcasting.
"""

import hashlib
import struct
from collections.abc import Iterable
from typing import Final

import msgspec

from headrace.log.port import NewEvent, Recorded

HASH_BYTES: Final = 32
GENESIS: Final = bytes(HASH_BYTES)
_numbers = struct.Struct(">qiiq").pack
_length = struct.Struct(">i").pack


class Link(msgspec.Struct, frozen=True):
    """One append: the positions `first`..`last`, the leaves of their events in order, and the hash up to here."""

    first: int
    last: int
    leaves: bytes
    hash: bytes


def leaf(position: int, event: NewEvent | Recorded) -> bytes:
    """Hash one event at its position."""
    fields = (event.stream_id.encode(), event.type.encode(), event.workspace.encode(), event.data, event.meta)
    parts = [_numbers(position, event.version, event.schema, event.at)]
    for field in fields:
        parts.append(_length(len(field)))
        parts.append(field)
    return hashlib.sha256(b"".join(parts)).digest()


def follow(previous: bytes, leaves: bytes) -> bytes:
    """Hash an append onto the one before it."""
    return hashlib.sha256(previous + leaves).digest()


def link(previous: bytes, last_position: int, events: Iterable[NewEvent]) -> Link:
    """Make the link of an append of at least one event that follows `last_position`."""
    leaves = [leaf(position, event) for position, event in enumerate(events, last_position + 1)]
    joined = b"".join(leaves)
    return Link(last_position + 1, last_position + len(leaves), joined, follow(previous, joined))
