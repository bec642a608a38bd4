"""Being seen: beats, announcements of tools, and what owners say to workers."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from headrace import ids, telemetry
from headrace.bus.port import Bus, Subscription
from headrace.clock import Clock
from headrace.codec import encode
from headrace.errors import ForbiddenError, UnauthorizedError, UnavailableError
from headrace.keys import OWNERS, POOL, Keys
from headrace.vocabulary import LOG_CATALOGUE, PRESENCE_INTERVAL_S
from headrace.wire import Beat, BeatNow, Control, Drain, Interrupt, Probe
from headrace.worker.manifests import announcement
from headrace.worker.registry import Registry
from headrace.worker.waiting import within

ANNOUNCE_INTERVAL_S: Final = 30.0
ANNOUNCE_RETRY_S: Final = 1.0

log = logging.getLogger(__name__)
_decoder: msgspec.json.Decoder[Control] = msgspec.json.Decoder(Control)


class Listener(Protocol):
    """Who acts on what owners say."""

    def interrupt(self, interrupt: Interrupt) -> None:
        """Stop an attempt."""
        ...

    def drain(self) -> None:
        """Take no more work and end when none is held."""
        ...


class Presence:
    """Tells owners that this worker lives, what it holds and what it can do."""

    def __init__(
        self,
        *,
        bus: Bus,
        keys: Keys,
        clock: Clock,
        registry: Registry,
        pools: Sequence[str],
        worker: str,
        workspace: str,
        beat: Callable[[], Beat],
        listener: Listener,
    ) -> None:
        self._bus, self._keys, self._clock = bus, keys, clock
        self._registry, self._pools = registry, tuple(pools)
        self._worker, self._workspace = worker, workspace
        self._beat, self._listener = beat, listener
        self._beat_now = asyncio.Event()
        self._announce_now = asyncio.Event()

    async def open(self) -> Subscription:
        """Begin to hear what owners say."""
        return await self._bus.open_control(self._heard)

    def beat_now(self) -> None:
        """Beat at once, and again at the interval."""
        self._beat_now.set()

    def say(self) -> None:
        """Beat once, now: also the last word of a worker that leaves, so that nobody counts on it any more."""
        self._bus.publish_presence(self._keys.pack(POOL + self._pools[0], encode(self._beat())))

    async def run_beats(self) -> None:
        """Beat at every interval and when asked; after a lost connection announce the tools again."""
        connected = True
        while True:
            self._beat_now.clear()
            self.say()
            if self._bus.connected and not connected:
                self._announce_now.set()
            connected = self._bus.connected
            await within(self._clock, self._beat_now, PRESENCE_INTERVAL_S)

    async def run_announcements(self) -> None:
        """Announce every tool at the start, after a lost connection, and at the interval (a repeat is nothing)."""
        while True:
            self._announce_now.clear()
            pause_s = ANNOUNCE_INTERVAL_S
            try:
                await self._announce()
            except UnavailableError as problem:
                log.info("the tools could not be announced yet: %s", problem.message)
                pause_s = ANNOUNCE_RETRY_S
            await within(self._clock, self._announce_now, pause_s)

    async def _announce(self) -> None:
        for record in self._registry.records():
            if record.manifest.pool not in self._pools:
                continue
            told = announcement(record.manifest, self._worker, self._workspace)
            packed = self._keys.pack(POOL + record.manifest.pool, encode(told))
            await self._bus.tell(LOG_CATALOGUE, ids.partition_of(told.stream_id), packed)

    def _heard(self, packed: bytes) -> None:
        label = packed.partition(b"\n")[0].decode("ascii", "replace")
        if label != OWNERS and label.removeprefix(POOL) not in self._pools:
            return
        try:
            _, body = self._keys.unpack(packed)
            message = _decoder.decode(body)
        except ForbiddenError:
            return  # sealed for those who hold the owners' key; each pool is told under its own
        except (UnauthorizedError, msgspec.DecodeError) as problem:
            log.warning("a control message was refused: %s", problem)
            telemetry.message_refused("control", "seal" if isinstance(problem, UnauthorizedError) else "malformed")
            return
        match message:
            case Interrupt():
                self._listener.interrupt(message)
            case BeatNow():
                self.beat_now()
            case Drain():
                if message.worker == self._worker:
                    self._listener.drain()
            case Probe():
                self._bus.publish_presence(packed)
