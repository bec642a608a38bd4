"""Commands on their way to an owner: sealed, and sent again under the same key until the request's deadline."""

import asyncio
import logging
from typing import Final

import msgspec

from headrace import codec, errors, ids
from headrace.bus.port import Bus
from headrace.clock import Clock
from headrace.envelope import Message
from headrace.keys import COMMANDS, Keys
from headrace.messages import Answer, Command
from headrace.vocabulary import LOG_PARTITIONS, MESSAGE_BYTES_MAX
from headrace_api.admission import Caller

DEADLINE_S: Final = 10.0
DISCONNECTED_S: Final = 2.0
"""How long a write waits for a bus that is away before it says so."""
ASK_S: Final = 3.0
AGAIN_FIRST_S: Final = 0.05
AGAIN_MAX_S: Final = 0.5
RETRY_AFTER_S: Final = 2
SEAL_ROOM_BYTES: Final = 256

_log = logging.getLogger(__name__)
_decoder = msgspec.json.Decoder(Answer)


class Commander:
    """The one way from the api to an owner."""

    def __init__(self, bus: Bus, keys: Keys, clock: Clock, *, deadline_s: float = DEADLINE_S) -> None:
        self._bus, self._keys, self._clock, self._deadline_s = bus, keys, clock, deadline_s
        self.partitions = dict(LOG_PARTITIONS)
        self._asking: set[asyncio.Timeout] = set()
        self._again_at = -AGAIN_MAX_S

    def ask_again(self) -> None:
        """Ask again what is not answered yet: an owner serves partitions that it did not, and whom we asked may be gone."""
        now = self._clock.monotonic()
        if now - self._again_at < AGAIN_MAX_S:
            return
        self._again_at = now
        for limit in self._asking:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())

    async def send(
        self,
        log: str,
        body: Message,
        caller: Caller,
        *,
        stream_id: str | None = None,
        key: str | None = None,
        end_to: str = "",
    ) -> Answer:
        """Ask an owner and give its answer after commit.

        `key` makes a repeat harmless where the command itself is not. `end_to` is where to tell how the stream ended
        that the command creates. Raises the owner's refusal, TooLargeError, and
        UnavailableError when nobody answered until the deadline: the same request may then be sent again.
        """
        count = self.partitions[log]
        partition = ids.partition_of(stream_id) if stream_id else ids.partition_for(count, caller.workspace, key or "")
        return await self.send_to(log, partition, body, caller, stream_id=stream_id, key=key, end_to=end_to)

    async def send_to(
        self,
        log: str,
        partition: int,
        body: Message,
        caller: Caller,
        *,
        stream_id: str | None = None,
        key: str | None = None,
        end_to: str = "",
    ) -> Answer:
        """Ask the owner of one partition; otherwise as `send`."""
        command = Command(
            body=codec.Raw(codec.encode(body)),
            actor=caller.actor,
            workspace=caller.workspace,
            stream_id=stream_id,
            key=key,
            traceparent=caller.traceparent,
            end_to=end_to,
        )
        data = self._keys.pack(COMMANDS, codec.encode(command))
        if len(data) > MESSAGE_BYTES_MAX - SEAL_ROOM_BYTES:
            message = f"the request is {len(data)} bytes on the bus; at most {MESSAGE_BYTES_MAX} fit: bring large content by reference"
            raise errors.TooLargeError(message, details={"limit_bytes": MESSAGE_BYTES_MAX})
        return await self._until_answered(log, partition, data, key)

    async def _ask(self, log: str, partition: int, data: bytes, timeout_s: float) -> bytes:
        """Ask once; raises UnavailableError without an answer, and when another owner begins meanwhile."""
        try:
            async with asyncio.timeout(timeout_s * 2) as limit:
                self._asking.add(limit)
                try:
                    return await self._bus.command(log, partition, data, timeout_s=timeout_s)
                finally:
                    self._asking.discard(limit)
        except TimeoutError as problem:
            message = f"another owner began to serve while {log}/{partition} was asked"
            raise errors.UnavailableError(message) from problem

    async def _until_answered(self, log: str, partition: int, data: bytes, key: str | None) -> Answer:
        began, pause = self._clock.monotonic(), AGAIN_FIRST_S
        while True:
            left = self._deadline_s - (self._clock.monotonic() - began)
            try:
                reply = await self._ask(log, partition, data, min(ASK_S, max(left, AGAIN_FIRST_S)))
                answer = _decoder.decode(reply)
                if answer.error is None:
                    return answer
                refusal = refused(answer)
            except errors.UnavailableError as problem:
                refusal = problem
            if not isinstance(refusal, errors.UnavailableError):
                raise refusal
            spent = self._clock.monotonic() - began
            limit = self._deadline_s if self._bus.connected else min(DISCONNECTED_S, self._deadline_s)
            if spent + pause >= limit:
                raise _unavailable(log, partition, key, refusal)
            await asyncio.sleep(pause)
            pause = min(pause * 2, AGAIN_MAX_S)


def refused(answer: Answer) -> errors.HeadraceError:
    """Make the error that an owner answered with; 413 and 422 share their type with 400."""
    info = answer.error
    if info is None:
        message = "the answer is no refusal"
        raise ValueError(message)
    if info.type == errors.ValidationError.type:
        kinds = {413: errors.TooLargeError, 422: errors.UnprocessableError}
        kind = kinds.get(answer.status, errors.ValidationError)
        return kind(info.message, details=info.details, plugin=info.plugin)
    return errors.from_envelope(
        {"type": info.type, "message": info.message, "details": info.details, "plugin": info.plugin}
    )


def _unavailable(log: str, partition: int, key: str | None, why: Exception) -> errors.UnavailableError:
    message = (
        f"the owner of {log}/{partition} does not answer ({why}); nothing is lost: send the same request again"
        + (f" with Idempotency-Key {key}" if key else "")
    )
    details: dict[str, object] = {"retry_after_s": RETRY_AFTER_S}
    if key:
        details["idempotency_key"] = key
    return errors.UnavailableError(message, details=details)
