"""The feed: committed events as CloudEvents, in arrays that fit a message."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from headrace import codec
from headrace.codec import Raw
from headrace.host.tenure import Held
from headrace.log.port import NewEvent
from headrace.vocabulary import MESSAGE_BYTES_MAX
from headrace.wire import FeedEvent

ARRAY_BYTES_MAX = MESSAGE_BYTES_MAX - 64 * 1024


def messages(incarnation: str, held: Held, after: int, events: Sequence[NewEvent]) -> Iterator[bytes]:
    """Give the feed's messages for events appended after a position. One too large for a message is left to readers.

    A reader sees the gap in the positions and fills it from the log.
    """
    array: list[bytes] = []
    size = 0
    log, partition = held.log, held.partition
    source = f"headrace/{incarnation}/{log}"
    for position, event in enumerate(events, after + 1):
        told = FeedEvent(
            id=f"{log}/{partition}/{position}",
            source=source,
            type=event.type,
            subject=event.stream_id,
            time=rfc3339(event.at),
            data=Raw(event.data),
            log=log,
            partition=partition,
            position=position,
            version=event.version,
            workspace=event.workspace,
        )
        body = codec.encode(told)
        weight = len(body)
        if weight > ARRAY_BYTES_MAX:
            continue
        if size + weight > ARRAY_BYTES_MAX:
            yield b"[" + b",".join(array) + b"]"
            array, size = [], 0
        array.append(body)
        size += weight + 1
    if array:
        yield b"[" + b",".join(array) + b"]"


def rfc3339(at_ms: int) -> str:
    """Write a time (milliseconds since 1970) as RFC 3339 in UTC."""
    return f"{_to_the_second(at_ms // 1000)}{at_ms % 1000:03d}Z"


@lru_cache(maxsize=1_024)
def _to_the_second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
