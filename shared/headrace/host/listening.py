"""Listening: beats of workers, probes of our own ears, and the judging of orders that depends on both."""

import asyncio
import logging
from typing import Final

import msgspec

from headrace import codec
from headrace.beats import Gathered
from headrace.bus.port import Bus, Subscription
from headrace.clock import Clock, until_tick
from headrace.errors import HeadraceError, UnavailableError
from headrace.host import metrics
from headrace.host.cadence import BUS_TIMEOUT_S, HASTE_FACTOR, Cadence
from headrace.host.dispatch import Dispatcher
from headrace.host.presence import Presence
from headrace.keys import COMMANDS, OWNERS, POOL, Keys
from headrace.vocabulary import PRESENCE_STALE_S
from headrace.waits import Limit
from headrace.wire import Beat, ForgetWorkers, Probe

PROBE: Final = OWNERS.encode() + b"\n"
"""How a probe begins as it is packed."""
IDLE_FACTOR: Final = 2
"""How much rarer it is probed and judged while nothing is out: still often enough for silence to be proven on."""

_logger = logging.getLogger(__name__)
_beats = msgspec.json.Decoder(Beat)
_probes = msgspec.json.Decoder(Probe)
_forgettings = msgspec.json.Decoder(ForgetWorkers)


class Listening:
    """Keeps presence, and lets the dispatcher repair what was lost."""

    def __init__(
        self,
        bus: Bus,
        *,
        clock: Clock,
        keys: Keys,
        owner_id: str,
        presence: Presence,
        dispatcher: Dispatcher,
        cadence: Cadence,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._keys = keys
        self._owner_id = owner_id
        self._presence = presence
        self._dispatcher = dispatcher
        self._cadence = cadence
        self._gathered = Gathered()
        self._limit = Limit(BUS_TIMEOUT_S)
        self._sent = self._served = 0

    async def run(self) -> None:
        """Listen, probe and judge until cancelled."""
        subscription = await self._subscribe()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._probe())
                group.create_task(self._judge())
        finally:
            async with asyncio.timeout(BUS_TIMEOUT_S):
                await subscription.close()

    async def _subscribe(self) -> Subscription:
        while True:
            try:
                async with asyncio.timeout(BUS_TIMEOUT_S):
                    return await self._bus.open_presence(self._hear)
            except (UnavailableError, TimeoutError) as problem:
                _logger.info("presence is opened again: %s", problem)
                await self._clock.sleep(self._cadence.retry_s)

    def _hear(self, data: bytes) -> None:
        if data.startswith(PROBE) and self._owner_id.encode() not in data:
            return  # another owner's, whose seal is that owner's to look at
        try:
            label, body = self._keys.unpack(data)
            if label == OWNERS:
                probe = _probes.decode(body)
                if probe.owner == self._owner_id:
                    self._presence.probe_returned(probe.nonce)
            elif label == COMMANDS:
                self._presence.forget(_forgettings.decode(body).workers, PRESENCE_STALE_S)
            elif label.startswith(POOL):
                beat = _beats.decode(body)
                if label.removeprefix(POOL) in beat.pools and (whole := self._gathered.take(beat)) is not None:
                    self._presence.heard(whole)
        except (HeadraceError, msgspec.DecodeError, UnicodeDecodeError) as problem:
            metrics.refused("beat", type(problem).__name__)
            _logger.warning("a beat was refused: %s", problem)

    def serving(self) -> None:
        """Say at once that new tenures are served."""
        self._served += 1
        self._say()

    def _say(self) -> None:
        self._sent += 1
        nonce = f"{self._sent}"
        self._presence.probe(nonce)
        probe = Probe(owner=self._owner_id, nonce=nonce, served=self._served)
        self._bus.publish_presence(self._keys.pack(OWNERS, codec.encode(probe)))

    async def _probe(self) -> None:
        while True:
            self._say()
            await self._pause(self._cadence.probe_s)

    async def _pause(self, period_s: float) -> None:
        """Wait for the next tick, or until a new tenure brings orders that may be out; idle, every second one is taken."""
        if self._dispatcher.hasty:
            period_s /= HASTE_FACTOR
        elif not self._dispatcher.busy:
            period_s *= IDLE_FACTOR
        await self._dispatcher.doubted.wait_for(until_tick(self._clock.monotonic(), period_s))

    async def _judge(self) -> None:
        while True:
            await self._pause(self._cadence.judge_s)
            self._dispatcher.tick()
            for pool in self._dispatcher.watched_pools():
                try:
                    with self._limit:
                        passed = await self._bus.passed(pool)
                except (UnavailableError, TimeoutError) as problem:
                    _logger.debug("nobody tells how far pool %s has come: %s", pool, problem)
                    continue
                self._dispatcher.judge(pool, passed)
            self._dispatcher.pump()
