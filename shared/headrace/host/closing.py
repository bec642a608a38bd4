"""What a draft makes of streams and orders as they leave it."""

from typing import Any

import msgspec

from headrace import codec
from headrace.host.draft import End, Part
from headrace.host.failures import SpoiltError
from headrace.host.tenure import Stream
from headrace.vocabulary import ORDER_INLINE_BYTES_MAX
from headrace.wire import WorkOrder


def end_of(stream: Stream, now: int, *, woken: bool, changed: bool) -> End:
    """Say how a stream stands at the end of a draft; raises SpoiltError."""
    try:
        room = stream.held.room
        wake_at = room.wake_at(stream.state)
        after = getattr(room, "wake_after", None) if woken and wake_at is not None else None
        next_at = after(stream.state, now) if after is not None else None
        return End(stream, wake_at, room.finished(stream.state), woken, changed, next_at)
    except Exception as problem:
        raise SpoiltError(problem) from problem


def light(order: WorkOrder, part: Part, trace: str | None) -> WorkOrder:
    """Name the trace, and let large arguments and evidence travel as blobs, stored with the events that order them."""
    size = len(order.arguments) + len(order.evidence)
    if trace is None and size <= ORDER_INLINE_BYTES_MAX:
        return order
    changes: dict[str, Any] = {} if trace is None else {"traceparent": trace}
    for name in ("arguments", "evidence"):
        body = bytes(getattr(order, name))
        if len(body) > ORDER_INLINE_BYTES_MAX:
            digest = codec.sha256(body)
            part.blobs[digest] = body
            changes |= {name: codec.NULL, f"{name}_blob": digest}
    return msgspec.structs.replace(order, **changes) if changes else order
