"""Permission to act: a write or notification is claimed from the run's owner before it is performed."""

from typing import Final, Protocol

import msgspec

from headrace import ids, telemetry
from headrace.bus.port import Bus
from headrace.clock import Clock
from headrace.codec import encode
from headrace.errors import ConflictError, ForbiddenError, UnauthorizedError, UnavailableError
from headrace.keys import POOL, Keys
from headrace.messages import ClaimWrite
from headrace.vocabulary import CLAIM_GRANT_S, LOG_RUNS
from headrace.wire import ClaimGrant, WorkOrder

CLAIM_TIMEOUT_S: Final = 5.0
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 2.0
NONCE_BYTES: Final = 16


class Claimer(Protocol):
    """Who gives permission to act."""

    async def claim(self, order: WorkOrder) -> "Permission":
        """Ask until the owner answers; raises ConflictError when it says no."""
        ...


class Permission(msgspec.Struct, frozen=True):
    """A granted claim: good until `expires_at` (ms, the owner's clock) and CLAIM_GRANT_S after it was first asked."""

    expires_at: int
    asked_at_s: float

    def check(self, clock: Clock) -> None:
        """Raise ConflictError when the grant is over; call it just before acting."""
        if clock.now_ms() >= self.expires_at or clock.monotonic() - self.asked_at_s >= CLAIM_GRANT_S:
            message = "the permission to act ran out before it was used, so nothing was performed"
            raise ConflictError(message, details={"retryable": True})


class BusClaimer:
    """Claims over the bus, again with the same nonce while nobody answers: the same grant comes back."""

    def __init__(self, bus: Bus, keys: Keys, clock: Clock, worker: str) -> None:
        self._bus, self._keys, self._clock, self._worker = bus, keys, clock, worker

    async def claim(self, order: WorkOrder) -> Permission:
        """Ask until the owner answers; the attempt's own timeout bounds it."""
        nonce = self._clock.entropy()[:NONCE_BYTES].hex()
        request = ClaimWrite(
            run_id=order.run_id,
            step=order.step,
            attempt=order.attempt,
            attempt_id=order.attempt_id,
            nonce=nonce,
            arguments_digest=order.arguments_digest,
            worker=self._worker,
            index=order.index,
        )
        packed = self._keys.pack(POOL + order.pool, encode(request))
        asked_at_s = self._clock.monotonic()
        grant = await self._ask(POOL + order.pool, ids.partition_of(order.run_id), packed)
        if not grant.granted or grant.nonce != nonce:
            message = f"the owner gave no permission to act: {grant.reason or 'another attempt holds it'}"
            raise ConflictError(message, details={"reason": grant.reason, "retryable": False})
        return Permission(grant.expires_at, asked_at_s)

    async def _ask(self, label: str, partition: int, packed: bytes) -> ClaimGrant:
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                answer = await self._bus.claim(LOG_RUNS, partition, packed, timeout_s=CLAIM_TIMEOUT_S)
                return self._read(label, answer)
            except UnavailableError:
                await self._clock.sleep(backoff_s)
                backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)

    def _read(self, label: str, answer: bytes) -> ClaimGrant:
        """Open an owner's answer; one that no owner sealed gives no permission."""
        try:
            sealed_under, body = self._keys.unpack(answer)
            if sealed_under == label:
                return msgspec.json.decode(body, type=ClaimGrant)
            message = f"the answer to a claim is sealed for {sealed_under!r}, so nothing was performed"
        except (UnauthorizedError, ForbiddenError, msgspec.DecodeError) as problem:
            telemetry.message_refused("claim_grant", "unsealed")
            message = "the answer to a claim carries no seal of its owner's, so nothing was performed"
            raise ConflictError(message, details={"retryable": False}) from problem
        raise ConflictError(message, details={"retryable": False})
