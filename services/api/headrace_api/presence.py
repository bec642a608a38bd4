"""The workers that live, as their beats say: kept in memory, forgotten after silence."""

import logging
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from headrace import telemetry
from headrace.clock import Clock
from headrace.errors import ForbiddenError, UnauthorizedError
from headrace.keys import POOL, Keys
from headrace.vocabulary import PRESENCE_FORGOTTEN_S, PRESENCE_STALE_S
from headrace.wire import Beat
from headrace_api import views

SEAL_OFFSET: Final = 32

_log = logging.getLogger(__name__)
_decoder = msgspec.json.Decoder(Beat)


class Seen(msgspec.Struct):
    """A worker's last beat, when it came (monotonic seconds, and milliseconds since 1970), and whether its seal was checked."""

    beat: Beat
    heard: float
    at: int
    verified: bool


class Presence:
    """All workers that were heard of lately."""

    def __init__(self, clock: Clock, keys: Keys) -> None:
        self._clock, self._keys = clock, keys
        self._seen: dict[str, Seen] = {}
        self.refused = 0

    def deliver(self, packed: bytes) -> None:
        """Take a beat; probes of owners on the same path are none of our business."""
        label, _, sealed = packed.partition(b"\n")
        verified = True
        try:
            _, body = self._keys.unpack(packed)
        except UnauthorizedError:
            self.refused += 1
            telemetry.message_refused("presence", "seal")
            _log.warning("a beat under %r carries no valid seal (%d so far)", label[:64], self.refused)
            return
        except ForbiddenError:
            body, verified = sealed[SEAL_OFFSET:], False
        if not label.startswith(POOL.encode()):
            return
        try:
            beat = _decoder.decode(body)
        except (msgspec.ValidationError, msgspec.DecodeError):
            return
        self._seen[beat.worker] = Seen(beat, self._clock.monotonic(), self._clock.now_ms(), verified)
        self._forget()

    def _forget(self) -> None:
        now = self._clock.monotonic()
        for worker in [name for name, seen in self._seen.items() if now - seen.heard > PRESENCE_FORGOTTEN_S]:
            del self._seen[worker]

    def _alive(self) -> Iterable[Seen]:
        now = self._clock.monotonic()
        return [seen for seen in self._seen.values() if now - seen.heard <= PRESENCE_STALE_S]

    def active(self) -> bool:
        """Tell whether any worker lives (row 14: false 61 s after the last beat)."""
        return bool(self._alive())

    def pools(self) -> set[str]:
        """Give the pools that living workers work for, and go on to take work from."""
        return {pool for seen in self._alive() if not seen.beat.draining for pool in seen.beat.pools}

    def workers(self) -> list[dict[str, Any]]:
        """Give every worker heard of in the last 120 s, by name."""
        self._forget()
        return [self._view(seen) for _, seen in sorted(self._seen.items())]

    def _view(self, seen: Seen) -> dict[str, Any]:
        beat = seen.beat
        stale = self._clock.monotonic() - seen.heard > PRESENCE_STALE_S
        status = "stale" if stale else "draining" if beat.draining else "processing" if beat.holding else "idle"
        return {
            "id": beat.worker,
            "service": beat.service,
            "host": beat.host,
            "status": status,
            "pools": list(beat.pools),
            "slots": beat.slots,
            "holding": [
                {"attempt_id": each.attempt_id, "tool": each.tool, "since": views.at(each.since)}
                for each in beat.holding
            ],
            "done_total": beat.done_total,
            "failed_total": beat.failed_total,
            "started_at": views.at(beat.started_at) if beat.started_at else None,
            "last_seen_at": views.at(seen.at),
            "verified": seen.verified,
        }

    def tool_stats(self) -> dict[str, list[dict[str, Any]]]:
        """Give what living workers say about their tools, by tool name."""
        stats: dict[str, list[dict[str, Any]]] = {}
        for seen in self._alive():
            for told in seen.beat.tools:
                stats.setdefault(str(told.get("name")), []).append({**told, "worker": seen.beat.worker})
        return stats
