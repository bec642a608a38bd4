"""The workers that live, as their beats say: kept in memory, forgotten after silence."""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from headrace import telemetry
from headrace.beats import Gathered
from headrace.clock import Clock
from headrace.codec import encode, loads
from headrace.errors import ForbiddenError, UnauthorizedError
from headrace.keys import COMMANDS, OWNERS, POOL, Keys
from headrace.vocabulary import PRESENCE_FORGOTTEN_S, PRESENCE_LOST_S, PRESENCE_STALE_S
from headrace.wire import Beat, ForgetWorkers, Holding, Probe
from headrace_api import views

SEAL_OFFSET: Final = 32
POOLS_KNOWN_MAX: Final = 1_000
OWNERS_KNOWN_MAX: Final = 1_000

_log = logging.getLogger(__name__)
_decoder = msgspec.json.Decoder(Beat)
_probes = msgspec.json.Decoder(Probe)
_forgettings = msgspec.json.Decoder(ForgetWorkers)


class Seen(msgspec.Struct):
    """A worker's last beat, when it came (monotonic seconds, and milliseconds since 1970), and whether its seal was checked."""

    beat: Beat
    heard: float
    at: int
    verified: bool


class Held(msgspec.Struct, frozen=True):
    """An attempt of a run in the hands of a worker."""

    seen: Seen
    holding: Holding


class Presence:
    """All workers that were heard of lately."""

    def __init__(self, clock: Clock, keys: Keys) -> None:
        self._clock, self._keys = clock, keys
        self._seen: dict[str, Seen] = {}
        self._gathered = {True: Gathered(), False: Gathered()}  # what is sealed is never mixed with what is not
        self._expected: list[tuple[Callable[[Beat], bool], asyncio.Future[Seen]]] = []
        self._pools_served: dict[str, int] = {}
        self._given_up: set[str] = set()
        self._owners: OrderedDict[str, int] = OrderedDict()
        self.served: Callable[[], None] = lambda: None
        """Called when an owner says that it serves what it did not before. That is a hint: its seal is not looked at."""
        self.refused = 0
        self.listening_since = clock.now_ms()
        telemetry.workers_alive(lambda: len(self._alive()))

    def deliver(self, packed: bytes) -> None:
        """Take a beat; of an owner's probe, on the same path, whether it serves more than before."""
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
        try:
            if label == COMMANDS.encode() and verified:
                word = _forgettings.decode(body)
                self.forget(word.workers, word.pools)
            elif label == OWNERS.encode():
                self._probed(_probes.decode(body))
            elif label.startswith(POOL.encode()):
                self._take(_decoder.decode(body), verified=verified)
        except (msgspec.ValidationError, msgspec.DecodeError) as problem:
            telemetry.message_refused("presence", "malformed")
            _log.warning("a beat under %r cannot be read: %s", label[:64], problem)

    def _probed(self, probe: Probe) -> None:
        if probe.served == self._owners.get(probe.owner, 0):
            return
        self._owners[probe.owner] = probe.served
        self._owners.move_to_end(probe.owner)
        if len(self._owners) > OWNERS_KNOWN_MAX:
            self._owners.popitem(last=False)
        self.served()

    def _take(self, part: Beat, *, verified: bool) -> None:
        beat = self._gathered[verified].take(part)
        if beat is not None:
            self._heard(beat, verified=verified)

    def _heard(self, beat: Beat, *, verified: bool) -> None:
        seen = Seen(beat, self._clock.monotonic(), self._clock.now_ms(), verified)
        if not beat.draining:
            for pool in beat.pools:
                if pool in self._pools_served or len(self._pools_served) < POOLS_KNOWN_MAX:
                    self._pools_served[pool] = seen.at
            self._given_up.difference_update(beat.pools)
        if beat.leaving:
            self._seen.pop(beat.worker, None)
        else:
            self._seen[beat.worker] = seen
        self._forget_old()
        for fits, expected in self._expected:
            if not expected.done() and fits(beat):
                expected.set_result(seen)

    @contextlib.contextmanager
    def expecting(self, fits: Callable[[Beat], bool]) -> Iterator[asyncio.Future[Seen]]:
        """Give a future of the next beat that fits."""
        expected = fits, asyncio.get_running_loop().create_future()
        self._expected.append(expected)
        try:
            yield expected[1]
        finally:
            self._expected.remove(expected)

    def forget(self, workers: Iterable[str], pools: Iterable[str] = ()) -> None:
        """Forget those of these workers that are stale, and miss nobody in those of these pools that nobody serves."""
        for worker in workers:
            if (self.silent_s(worker) or 0.0) > PRESENCE_STALE_S:
                del self._seen[worker]
        self._given_up.update(set(pools).intersection(self.missed()))

    def forgetting(self, workers: Iterable[str], pools: Iterable[str]) -> bytes:
        """Write the word that lets everybody forget workers and pools who does not hear them either."""
        return self._keys.pack(COMMANDS, encode(ForgetWorkers(workers=tuple(workers), pools=tuple(pools))))

    def _forget_old(self) -> None:
        now = self._clock.monotonic()
        for worker in [name for name, seen in self._seen.items() if now - seen.heard > PRESENCE_FORGOTTEN_S]:
            del self._seen[worker]

    def silent_s(self, worker: str) -> float | None:
        """Give the seconds since a worker's last beat; None for one that is unknown."""
        seen = self._seen.get(worker)
        return None if seen is None else self._clock.monotonic() - seen.heard

    def stale(self, seen: Seen) -> bool:
        """Tell whether a worker was silent for too long to be counted on."""
        return self._clock.monotonic() - seen.heard > PRESENCE_STALE_S

    def silent(self, seen: Seen) -> bool:
        """Tell whether a worker was silent for so long that owners take its attempts for lost once that is proven."""
        return self._clock.monotonic() - seen.heard >= PRESENCE_LOST_S

    def _alive(self) -> list[Seen]:
        return [seen for seen in self._seen.values() if not self.stale(seen)]

    def active(self) -> bool:
        """Tell whether any worker lives (row 14: false 61 s after the last beat)."""
        return bool(self._alive())

    def serving(self, pool: str | None = None) -> list[Seen]:
        """Give the workers that take work (from a pool), of those whose attempts owners would not take for lost."""
        live = [seen for seen in self._seen.values() if not self.silent(seen) and not seen.beat.draining]
        return [seen for seen in live if pool is None or pool in seen.beat.pools]

    def draining(self, pool: str) -> list[str]:
        """Name the living workers of a pool that take no more work."""
        live = [seen.beat for seen in self._seen.values() if not self.silent(seen)]
        return sorted(beat.worker for beat in live if beat.draining and pool in beat.pools)

    def pools(self) -> set[str]:
        """Give the pools that work is taken from."""
        return {pool for seen in self.serving() for pool in seen.beat.pools}

    def missed(self) -> list[str]:
        """Name the pools that were served since this process listens, and are no more, but for those given up."""
        return sorted(self._pools_served.keys() - self.pools() - self._given_up)

    def pool_served_at(self, pool: str) -> int | None:
        """Give when a worker was last heard that took work from a pool, in milliseconds; None when none ever was."""
        return self._pools_served.get(pool)

    def known(self) -> list[Seen]:
        """Give every worker heard of in the last 120 s, by name."""
        self._forget_old()
        return [seen for _, seen in sorted(self._seen.items())]

    def worker(self, worker: str) -> Seen | None:
        """Give a worker heard of in the last 120 s."""
        self._forget_old()
        return self._seen.get(worker)

    def workers(self, workspace: str) -> list[dict[str, Any]]:
        """Give every worker heard of in the last 120 s, by name, as a caller of a workspace may see it."""
        return [self.view(seen, workspace) for seen in self.known()]

    def held(self) -> list[Held]:
        """Give the attempts that workers said they hold; see `silent` for those that say nothing any more."""
        return [Held(seen, held) for seen in self._alive() for held in seen.beat.holding]

    def held_for(self, run_id: str) -> list[Held]:
        """Give those of them that are a run's."""
        return [each for each in self.held() if each.holding.run_id == run_id]

    def status(self, seen: Seen) -> str:
        """Give the status of VOCABULARY."""
        if self.stale(seen):
            return "stale"
        return "draining" if seen.beat.draining else "processing" if seen.beat.holding else "idle"

    def view(self, seen: Seen, workspace: str) -> dict[str, Any]:
        """Show a worker; which runs it works for is shown to their own workspace alone."""
        beat, blocked = seen.beat, seen.beat.blocked
        return {
            "id": beat.worker,
            "service": beat.service,
            "host": beat.host,
            "status": self.status(seen),
            "pools": list(beat.pools),
            "slots": beat.slots,
            "holding": [_held(each, workspace) for each in beat.holding],
            "blocked": None
            if blocked is None
            else {"since": views.at(blocked.since), "tool": blocked.tool, "attempt_id": blocked.attempt_id},
            "abandoned": list(beat.abandoned),
            "done_total": beat.done_total,
            "failed_total": beat.failed_total,
            "cancelled_total": beat.cancelled_total,
            "started_at": views.at(beat.started_at) if beat.started_at else None,
            "last_seen_at": views.at(seen.at),
            "verified": seen.verified,
        }

    def problems(self) -> list[str]:
        """Say what an operator should know of workers."""
        told = []
        for seen in self._alive():
            blocked = seen.beat.blocked
            if blocked is not None:
                told.append(f"worker {seen.beat.worker} is blocked {blocked_by(seen)}: the stack stands in its log")
            if seen.beat.abandoned:
                names = ", ".join(seen.beat.abandoned)
                told.append(
                    f"worker {seen.beat.worker} has threads that go on after their attempt was stopped: {names}"
                )
        return told

    def tool_stats(self) -> dict[str, list[dict[str, Any]]]:
        """Give what living workers say about their tools, by tool name."""
        stats: dict[str, list[dict[str, Any]]] = {}
        for seen in self._alive():
            for told in map(loads, seen.beat.tools):
                if isinstance(told, dict):
                    stats.setdefault(str(told.get("name")), []).append({**told, "worker": seen.beat.worker})
        return stats


def blocked_by(seen: Seen) -> str:
    """Say since when and by what a blocked worker is blocked."""
    blocked = seen.beat.blocked
    if blocked is None:
        return ""
    what = f"the tool {blocked.tool} (attempt {blocked.attempt_id})" if blocked.tool else "no tool"
    return f"since {views.at(blocked.since)} by {what}"


def _held(held: Holding, workspace: str) -> dict[str, Any]:
    own = {"run_id": held.run_id, "step": held.step, "item": held.index, "message": held.message or None}
    hidden = dict.fromkeys(own)
    return {
        "attempt_id": held.attempt_id,
        "tool": held.tool,
        "since": views.at(held.since),
        "begun": held.begun,
        "progress": held.progress,
        **(own if held.workspace == workspace else hidden),
    }
