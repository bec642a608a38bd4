"""Trigger events on their way to the bus: under a key that its sender chose each is published once, and answered alike.

No owner decides on them, so that they are taken while no planner lives; what was answered is kept beside the answers of
owners. First the key is taken, by an answer that is yet to come, then the event is published: a repeat of what broke off
in between publishes it again, which the bus and the runs that it starts know by its id.
"""

from typing import Any, Final

import msgspec

from headrace import codec
from headrace.bus import subjects
from headrace.errors import KEY_HEADER, UnprocessableError
from headrace.log.port import KeptAnswer
from headrace_api.asking import Asking

PLACE: Final = ("triggers", 0)
"""Where their answers are kept: beside those of logs and partitions."""
TO_COME: Final = b""


async def publish(asked: Asking, name: str, data: bytes) -> dict[str, Any]:
    """Publish a trigger event and give the answer; raises ValidationError for a name that is none.

    Raises UnprocessableError when its key was used for another one.
    """
    subjects.trigger(name)  # a name that is none must not take a key, which would then refuse the right one
    if not asked.again:
        return await _published(asked, name, data, new=True)
    claim = claim_of(asked, name, data)
    kept = await asked.desk.log.keep_answer(*PLACE, claim)
    if kept is not None and kept.request_digest != claim.request_digest:
        raise _used(asked.key)
    if kept is not None and kept.answer != TO_COME:
        told: dict[str, Any] = codec.loads(kept.answer)
        return told
    told = await _published(asked, name, data, new=kept is None)
    await asked.desk.log.keep_answer(*PLACE, msgspec.structs.replace(claim, answer=codec.dumps(told)))
    return told


def claim_of(asked: Asking, name: str, data: bytes) -> KeptAnswer:
    """Give what takes a request's key for an event, until there is an answer."""
    return KeptAnswer(f"{asked.workspace}/{asked.key}", codec.sha256(f"{name}\n".encode() + data), name, TO_COME)


async def _published(asked: Asking, name: str, data: bytes, *, new: bool) -> dict[str, Any]:
    try:
        published = await asked.desk.bus.publish_trigger(name, data, message_id=asked.key)
    except UnprocessableError as problem:
        raise _used(asked.key) from problem
    if published.unsaid and new:  # under a new key it was not this request that used the id
        raise _used(asked.key)
    return {"name": name, "sequence": published.sequence, "message_id": asked.key}


def _used(key: str) -> UnprocessableError:
    message = f"the Idempotency-Key {key!r} was used for another trigger event: send this one under a key of its own"
    return UnprocessableError(message, details={"field": KEY_HEADER})
