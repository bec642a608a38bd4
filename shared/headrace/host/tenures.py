"""Tenures: claims partitions, renews leases, opens what a new one needs, and ends those that are over."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable

from headrace.bus.port import Bus, Subscription
from headrace.clock import Clock, until_tick
from headrace.errors import HeadraceError, UnavailableError
from headrace.host import metrics
from headrace.host.cadence import BUS_TIMEOUT_S, READ_TIMEOUT_S, Cadence
from headrace.host.chores import Chores
from headrace.host.intake import Intake
from headrace.host.items import Item, advance
from headrace.host.tenure import Held
from headrace.log.port import Holdings, Log, Tenure
from headrace.waits import Limit, Signal

NUDGED_AGAIN_S: Final = 0.1
"""How long it waits at the second of several nudges that follow each other; twice as long at each further one."""

LEAVING: Final = 0
"""The format of an owner that leaves: it keeps its partitions until it gives them back, and no other is for it."""

_logger = logging.getLogger(__name__)


@runtime_checkable
class Steered(Protocol):
    """A clock that follows the database's."""

    def steer(self, database_now_ms: int, took_ms: int) -> None:
        """Be set right by the database's time, which came with an answer that took so long."""
        ...


class Tenures:
    """The partitions that this process holds. `begun` and `ended` tell the host of each, `serving` that it serves all."""

    def __init__(
        self,
        log: Log,
        bus: Bus,
        *,
        clock: Clock,
        rooms: Iterable[Any],
        preparers: Mapping[str, Any],
        owner_id: str,
        cadence: Cadence,
        intake: Intake,
        chores: Chores,
        openings: Chores,
        begun: Callable[[Held, list[Item]], None],
        ended: Callable[[Held], None],
        settled: Callable[[Held], bool],
        serving: Callable[[], None] = lambda: None,
    ) -> None:
        self._log = log
        self._bus = bus
        self._clock = clock
        self._rooms = {room.log: room for room in rooms}
        self._preparers = preparers
        self._owner_id = owner_id
        self._cadence = cadence
        self._intake = intake
        self._chores = chores
        self._openings = openings
        self._begun = begun
        self._ended = ended
        self._settled = settled
        self._serving = serving
        self._held: dict[tuple[str, int], Held] = {}
        self._to_release: set[tuple[str, int]] = set()
        self._nudged = Signal()
        self._limit = Limit(cadence.lease_s)
        self._leaving = self._left = False
        self.answered = False
        """Whether the last heartbeat was answered."""

    def __iter__(self) -> Any:
        return iter(list(self._held.values()))

    @property
    def opened(self) -> bool:
        """Tell whether every tenure receives messages."""
        return all(held.opened for held in self._held.values())

    async def run(self) -> None:
        """Renew until everything is given back; raises DatabaseVersionError when the database is not ours to write."""
        complained, pause_s = False, 0.0
        while not self._left:
            try:
                await self._renew()
                complained = False
            except (UnavailableError, TimeoutError) as problem:
                self.answered = False
                if not complained:
                    _logger.warning("the log does not answer, leases run out: %s", problem)
                complained = True
            self._lapse()
            nudged = await self._nudged.wait_for(until_tick(self._clock.monotonic(), self._cadence.renew_s))
            if not nudged:
                pause_s = 0.0
            elif complained:
                await self._clock.sleep(min(self._cadence.retry_s, self._cadence.renew_s))
            else:  # at once, but not without pause: a pooler may end each session that it is given
                await self._clock.sleep(pause_s)
                pause_s = min(max(pause_s * 2, NUDGED_AGAIN_S), self._cadence.renew_s)

    async def _renew(self) -> None:
        with self._limit:
            if self._to_release:
                releasing = sorted(self._to_release)
                await self._log.release(self._owner_id, releasing)
                self._to_release.difference_update(releasing)
            asked_at = self._clock.monotonic()
            formats = {log: LEAVING if self._leaving else room.format for log, room in self._rooms.items()}
            holdings = await self._log.heartbeat(
                self._owner_id, formats, lease_s=self._cadence.lease_s, ended=self._nudged.set
            )
        if isinstance(self._clock, Steered):
            self._clock.steer(holdings.database_now, int((self._clock.monotonic() - asked_at) * 1_000) + 1)
        self.answered = True
        self._take_over(holdings, asked_at + self._cadence.lease_s)

    def _take_over(self, holdings: Holdings, lease_until: float) -> None:
        given = {(tenure.log, tenure.partition): tenure for tenure in holdings.tenures}
        for place, held in list(self._held.items()):
            tenure = given.get(place)
            if tenure is None or tenure.epoch != held.epoch:
                self.end(held, release=False)
            elif not held.live(self._clock.monotonic()):
                self.end(held)
            else:
                held.lease_until = lease_until
        for place, tenure in given.items():
            if place not in self._held and place not in self._to_release and not self._leaving:
                self._begin(tenure, lease_until)
        for place in () if self._leaving else holdings.surplus:  # who leaves gives all back, once it is done
            self._give_away(place)
        for place, held in self._held.items():
            if held.draining and place not in holdings.surplus and not self._leaving:
                self._take_back(held)
        metrics.holds({log: sum(1 for of, _ in self._held if of == log) for log in self._rooms})

    def _begin(self, tenure: Tenure, lease_until: float) -> None:
        room = self._rooms[tenure.log]
        held = Held.begin(tenure, lease_until, room, self._preparers.get(tenure.log))
        self._held[held.place] = held
        metrics.count("tenures")
        _logger.info("holds %s/%d in epoch %d", held.log, held.partition, held.epoch)
        self._openings.put(lambda: self._open(held))

    def _give_away(self, place: tuple[str, int]) -> None:
        """Hand a partition over that is more than a fair share, once what it has begun is done."""
        held = self._held.get(place)
        if held is None:
            return
        now = self._clock.monotonic()
        if held.draining and (self._settled(held) or now >= held.drain_until):
            self.end(held)
        elif not held.draining:
            held.draining, held.drain_until = True, now + self._cadence.drain_s
            if held.opened:  # else whoever opens it closes it again
                closing, held.subscriptions = held.subscriptions, []
                self._chores.put(lambda: self._close(closing))

    def _take_back(self, held: Held) -> None:
        """Serve a partition again that was to be given away: whoever was to have it is gone before it was."""
        held.draining = False
        if held.opened:
            held.opened = False
            self._openings.put(lambda: self._open(held, asked=True))

    async def _open(self, held: Held, *, asked: bool = False) -> None:
        """Read what is under way, unless that was `asked`, then receive messages; again until it works or it is over."""
        while not held.over:
            try:
                if not asked:
                    async with asyncio.timeout(READ_TIMEOUT_S):
                        busy = [held.address(one) for one in await self._log.busy(held.log, held.partition)]
                    held.unproven, held.surveyed = set(busy), True
                    self._begun(held, [advance(held, stream_id, restart=True) for stream_id in busy])
                    asked = True
                async with asyncio.timeout(BUS_TIMEOUT_S):
                    await self._subscribe(held)
            except (HeadraceError, TimeoutError) as problem:  # whatever it is: a tenure that nobody opens serves nobody
                _logger.info("%s/%d is opened again: %s", held.log, held.partition, problem)
                await self._clock.sleep(self._cadence.retry_s)
                continue
            held.opened = True
            if self.opened and not held.over:
                self._serving()
            break
        if held.over or held.draining:
            closing, held.subscriptions = held.subscriptions, []
            await self._close([*closing, *([held.inbox] if held.over and held.inbox else [])])

    async def _subscribe(self, held: Held) -> None:
        log, partition, intake = held.log, held.partition, self._intake
        if held.inbox is None:
            held.inbox = await self._bus.open_inbox(log, partition, held.epoch, partial(intake.message, held))
        if not held.subscriptions:
            held.subscriptions.append(await self._bus.serve_commands(log, partition, partial(intake.command, held)))
        if len(held.subscriptions) == 1:
            held.subscriptions.append(await self._bus.serve_claims(log, partition, partial(intake.claim, held)))

    async def _close(self, subscriptions: list[Subscription]) -> None:
        closing, subscriptions[:] = list(subscriptions), []
        for subscription in closing:
            async with asyncio.timeout(BUS_TIMEOUT_S):
                await subscription.close()

    def end(self, held: Held, *, release: bool = True) -> None:
        """End a tenure: nothing of it leaves any more; the next one begins with a new epoch."""
        if held.over:
            return
        held.over = True
        if self._held.get(held.place) is held:
            del self._held[held.place]
        _logger.info("no longer holds %s/%d of epoch %d", held.log, held.partition, held.epoch)
        if release:
            self._to_release.add(held.place)
        if not held.draining:
            metrics.tenure_over(held.log)
        self._ended(held)
        inbox: list[Subscription] = [held.inbox] if held.inbox is not None else []
        closing = [*held.subscriptions, *inbox]
        held.subscriptions = []
        self._chores.put(lambda: self._close(closing))
        self._nudged.set()

    def _lapse(self) -> None:
        """End the tenures whose lease ran out unrenewed."""
        now = self._clock.monotonic()
        for held in list(self._held.values()):
            if not held.live(now):
                self.end(held)

    async def stop_taking(self) -> None:
        """Take no more partitions and no more messages, to leave in order."""
        self._leaving = True
        for held in list(self._held.values()):
            held.draining = True
            await self._close(held.subscriptions)

    async def leave(self) -> None:
        """Give all partitions back."""
        self._left = True
        places = [*self._held, *self._to_release]
        for held in list(self._held.values()):
            self.end(held, release=False)
            if held.inbox is not None:
                await self._close([held.inbox])
        if places:
            async with asyncio.timeout(self._cadence.lease_s):
                await self._log.release(self._owner_id, places)
