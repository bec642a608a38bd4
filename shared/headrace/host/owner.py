"""The owner host: one loop that drains, decides, appends once, and only then publishes, answers and acknowledges.

Here its parts are put together, run, and ended in order. The loop is the pipeline's; tenures, listening and waking feed it.
"""

import asyncio
import contextlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from headrace.bus.port import Bus
from headrace.clock import Clock, until_tick
from headrace.errors import HeadraceError, UnavailableError
from headrace.host import metrics
from headrace.host.answers import Answers
from headrace.host.cadence import QUICK, READ_TIMEOUT_S, Cadence
from headrace.host.chores import Chores
from headrace.host.dispatch import Dispatcher
from headrace.host.intake import Intake
from headrace.host.items import Item, Origin, wake
from headrace.host.library import CachedLibrary
from headrace.host.listening import Listening
from headrace.host.loading import States
from headrace.host.overseeing import Overseer
from headrace.host.pipeline import Pipeline
from headrace.host.preparing import PREPARERS_MAX, Preparing
from headrace.host.presence import Presence
from headrace.host.publishing import Publisher
from headrace.host.tenure import Held
from headrace.host.tenures import Tenures
from headrace.host.wakeups import Wakeups
from headrace.host.waking import Waking
from headrace.keys import Keys
from headrace.log.port import Log, Parked

TELLS_MAX = 64
CHORES_MAX = 8
OPENINGS_MAX = 32
DRAIN_LOOK_S = 0.02


class OwnerHost:
    """Runs rooms over the partitions that this process holds.

    `library` is the one that the rooms were made with; `presence` the one that the preparers were made with.
    """

    def __init__(
        self,
        log: Log,
        bus: Bus,
        *,
        clock: Clock,
        keys: Keys,
        rooms: Iterable[Any],
        owner_id: str,
        preparers: Mapping[str, Any] | None = None,
        library: CachedLibrary | None = None,
        presence: Presence | None = None,
        cadence: Cadence = QUICK,
    ) -> None:
        self._log = log
        self._bus = bus
        self._clock = clock
        self._keys = keys
        self.cadence = cadence
        self._owner_id = owner_id
        self.presence = presence or Presence(clock, cadence)
        self.library = library or CachedLibrary()
        self.states = States(log, self.library)
        self._answers = Answers(log, clock, cadence)
        self.wakeups = Wakeups(int(cadence.wake_window_s * 1000))
        self._tells = Chores("tells", tasks=TELLS_MAX)
        self._chores = Chores("chores", tasks=CHORES_MAX)
        self._openings = Chores("openings", tasks=OPENINGS_MAX)
        self._prepared = Chores("prepared", tasks=PREPARERS_MAX, waiting_max=sys.maxsize)  # intake bounds it
        self.dispatcher = Dispatcher(bus, clock, keys, self.presence, self._send)
        self._publisher = self._make_publisher()
        self._pipeline = self._make_pipeline()
        self._listening = self._make_listening()
        self.tenures = self._make_tenures(rooms, preparers or {})
        self._waking = Waking(
            log, clock=clock, wakeups=self.wakeups, held=lambda: self.tenures, send=self._wake, cadence=cadence
        )

    def _make_publisher(self) -> Publisher:
        return Publisher(
            self._log,
            self._bus,
            clock=self._clock,
            keys=self._keys,
            dispatcher=self.dispatcher,
            wakeups=self.wakeups,
            states=self.states,
            answers=self._answers,
            tells=self._tells,
            chores=self._chores,
        )

    def _make_pipeline(self) -> Pipeline:
        return Pipeline(
            self._log,
            self._clock,
            states=self.states,
            answers=self._answers,
            dispatcher=self.dispatcher,
            publisher=self._publisher,
            end=self._end,
            committed=self._committed,
        )

    def _make_tenures(self, rooms: Iterable[Any], preparers: Mapping[str, Any]) -> Tenures:
        preparing = Preparing(self._clock, self._prepared, self._pipeline.put, self.cadence.retry_s)
        preparing.intake = Intake(
            self._keys,
            self._clock,
            put=preparing.pass_on,
            park=self._park,
            waiting=lambda: self._pipeline.waiting + len(self._prepared),
            pool_of=self.dispatcher.pool_of,
            oversee=Overseer(self._bus, self._keys, self.presence, self.dispatcher).answer,
        )
        return Tenures(
            self._log,
            self._bus,
            clock=self._clock,
            rooms=rooms,
            preparers=preparers,
            owner_id=self._owner_id,
            cadence=self.cadence,
            intake=preparing.intake,
            chores=self._chores,
            openings=self._openings,
            begun=self._begun,
            ended=self._ended,
            settled=self._pipeline.settled,
            serving=self._listening.serving,
        )

    def _make_listening(self) -> Listening:
        return Listening(
            self._bus,
            clock=self._clock,
            keys=self._keys,
            owner_id=self._owner_id,
            presence=self.presence,
            dispatcher=self.dispatcher,
            cadence=self.cadence,
        )

    @property
    def ready(self) -> bool:
        """Tell whether the log answers and every partition held here receives messages."""
        return self.tenures.answered and self.tenures.opened

    async def run(self) -> None:
        """Own partitions until cancelled: then what was begun is committed, and the partitions are given back."""
        async with asyncio.TaskGroup() as group:
            queues = (self._chores, self._openings, self._tells, self._prepared)
            for job in (*queues, self.tenures, self._waking, self._listening):
                group.create_task(job.run())
            group.create_task(self._pipeline.decide_for_ever())
            group.create_task(self._pipeline.commit_for_ever())
            group.create_task(self._rest_for_ever())
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await self._leave()

    async def _leave(self) -> None:
        with contextlib.suppress(TimeoutError, HeadraceError):
            async with asyncio.timeout(self.cadence.drain_s):
                await self.tenures.stop_taking()
                while self._pipeline.running and (len(self._prepared) or not self._pipeline.idle):
                    await self._clock.sleep(DRAIN_LOOK_S)
        with contextlib.suppress(TimeoutError, HeadraceError):
            await self.tenures.leave()

    def _send(self, held: Held, stream_id: str, command: object) -> None:
        self._pipeline.put(Item(held, Origin.HOST, stream_id, command))

    def _wake(self, held: Held, stream_id: str) -> None:
        self._pipeline.put(wake(held, stream_id, self.dispatcher.performed_ms(stream_id)))

    def _begun(self, held: Held, restarts: list[Item]) -> None:
        self._waking.stir(refill=True)
        if restarts or not self.presence.workers():
            self._pipeline.restart(restarts)

    def _end(self, held: Held) -> None:
        self.tenures.end(held)

    def _ended(self, held: Held) -> None:
        self._pipeline.drop(held)
        self.states.drop(held)
        self._answers.drop(held)
        self.wakeups.drop(held)
        self.dispatcher.drop(held)

    def _committed(self) -> None:
        self.library.trim()
        self._waking.stir()

    def _park(self, held: Held, parked: Parked, sequence: int | None) -> None:
        """Keep what could not even be read, and only then settle it."""

        async def keep() -> None:
            while not held.over:
                try:
                    async with asyncio.timeout(READ_TIMEOUT_S):
                        await self._log.park(parked)
                except (UnavailableError, TimeoutError):
                    await self._clock.sleep(self.cadence.retry_s)
                    continue
                metrics.parked(held.log)
                if sequence is not None and not held.over:
                    held.settle(sequence)
                return

        self._chores.put(keep)

    async def _rest_for_ever(self) -> None:
        while True:
            await self._clock.sleep(until_tick(self._clock.monotonic(), self.cadence.rest_s))
            self._publisher.rest(self._pipeline.fated)
