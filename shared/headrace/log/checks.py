"""What a log refuses to keep, checked before it is asked to (pure)."""

from typing import Final

from headrace import codec, ids
from headrace.errors import ValidationError
from headrace.log import rows
from headrace.log.port import DataError, NewEvent

FUTURE_MS_MAX: Final = 60_000
"""How far an event may lie ahead of the log's own clock (the database's append says the same)."""
NEWER: Final = "partition {partition} of {log} was written by newer code: use a newer headrace with it"


def check_digest(digest: str, body: bytes) -> None:
    """Hold a body to its digest; raises ValidationError."""
    if codec.sha256(body) != digest:
        message = f"the body's digest is not {digest}"
        raise ValidationError(message)


def check_home(partition: int, stream_id: str) -> None:
    """Hold a stream to the partition that its id names; raises DataError."""
    try:
        home = ids.partition_of(stream_id)
    except ValidationError as problem:
        raise DataError(problem.message) from problem
    if home != partition:
        message = f"{stream_id} belongs to partition {home}, not {partition}"
        raise DataError(message)


def check_event(partition: int, event: NewEvent, latest: int) -> None:
    """Refuse what the database refuses by itself: a time ahead, names it cannot keep, bytes that are no JSON."""
    check_home(partition, event.stream_id)
    if event.at > latest:
        message = f"event {event.type} of {event.stream_id} lies in the future"
        raise DataError(message)
    for text in (event.stream_id, event.type, event.workspace):
        if rows.storable(text) != text:
            message = f"{text!r} holds what the log cannot keep in a name"
            raise DataError(message)
    for data in (event.data, event.meta):
        try:
            codec.loads(data.decode())
        except (ValidationError, UnicodeDecodeError) as problem:
            message = f"event {event.type} of {event.stream_id}: {problem}"
            raise DataError(message) from problem
