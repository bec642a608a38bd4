"""The owner host: one loop that drains, decides, appends once, and only then publishes, answers and acknowledges.

While one batch commits the next is decided; at most one append is in flight in a process. When nothing commits, a
message is decided at once. A message that cannot be processed is isolated: its batch is done again, one message an
append, and what fails alone is parked. An append whose outcome is not known ends the tenure of its partitions.
"""

import asyncio
import contextlib
import logging
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from headrace.bus.port import Bus
from headrace.clock import Clock, until_tick
from headrace.decider import MissingError
from headrace.errors import HeadraceError, UnavailableError
from headrace.host import metrics
from headrace.host.answers import Answers, Kept, undo
from headrace.host.cadence import QUICK, READ_TIMEOUT_S, Cadence
from headrace.host.chores import Chores
from headrace.host.committing import Committer
from headrace.host.deciding import Deciding
from headrace.host.dispatch import Dispatcher
from headrace.host.draft import Draft
from headrace.host.failures import PoisonError, SpoiltError
from headrace.host.intake import Intake
from headrace.host.items import Item, Origin, wake
from headrace.host.library import CachedLibrary
from headrace.host.listening import Listening
from headrace.host.loading import States
from headrace.host.mailboxes import Mailboxes
from headrace.host.overseeing import Overseer
from headrace.host.preparing import PREPARERS_MAX, Preparing
from headrace.host.presence import Presence
from headrace.host.publishing import Publisher
from headrace.host.tenure import Held
from headrace.host.tenures import Tenures
from headrace.host.wakeups import Wakeups
from headrace.host.waking import Waking
from headrace.keys import Keys
from headrace.log.port import DataError, Log, Parked
from headrace.waits import Signal

TELLS_MAX = 64
CHORES_MAX = 8
OPENINGS_MAX = 32
DRAIN_LOOK_S = 0.02
BODIES_FETCHED_MAX = 16
"""Rounds of fetching bodies for one message that is decided alone."""

_logger = logging.getLogger(__name__)


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
        self._mailboxes = Mailboxes()
        self._solo: deque[Item] = deque()
        self._tells = Chores("tells", tasks=TELLS_MAX)
        self._chores = Chores("chores", tasks=CHORES_MAX)
        self._openings = Chores("openings", tasks=OPENINGS_MAX)
        self._prepared = Chores("prepared", tasks=PREPARERS_MAX, waiting_max=sys.maxsize)  # intake bounds it
        self._stirred = Signal()
        self._submitted = Signal()
        self._committing: Draft | None = None
        self._draft = Draft(1)
        self._running = True
        self._unheard = False
        """Whether tenures began whose orders may be out already, since workers were asked what they hold."""
        self.dispatcher = Dispatcher(bus, clock, keys, self.presence, self._send)
        self._deciding = Deciding(clock, self.states, self._answers, self.dispatcher.knows)
        self._committer = Committer(log, clock)
        self._publisher = self._make_publisher()
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

    def _make_tenures(self, rooms: Iterable[Any], preparers: Mapping[str, Any]) -> Tenures:
        preparing = Preparing(self._clock, self._prepared, self._enqueue, self.cadence.retry_s)
        preparing.intake = Intake(
            self._keys,
            self._clock,
            put=preparing.pass_on,
            park=self._park,
            waiting=lambda: len(self._mailboxes) + len(self._prepared),
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
            settled=self._settled,
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
            group.create_task(self._decide_for_ever())
            group.create_task(self._commit_for_ever())
            group.create_task(self._rest_for_ever())
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await self._leave()

    async def _leave(self) -> None:
        with contextlib.suppress(TimeoutError, HeadraceError):
            async with asyncio.timeout(self.cadence.drain_s):
                await self.tenures.stop_taking()
                while self._running and not self._idle:
                    await self._clock.sleep(DRAIN_LOOK_S)
        with contextlib.suppress(TimeoutError, HeadraceError):
            await self.tenures.leave()

    @property
    def _idle(self) -> bool:
        waiting = len(self._mailboxes) or self._solo or self._draft.items or len(self._prepared)
        return self._committing is None and not waiting

    # what comes in

    def _enqueue(self, item: Item) -> None:
        if not item.held.over:
            self._mailboxes.put(item)
            self._stirred.set()

    def _send(self, held: Held, stream_id: str, command: object) -> None:
        self._enqueue(Item(held, Origin.HOST, stream_id, command))

    def _wake(self, held: Held, stream_id: str) -> None:
        self._enqueue(wake(held, stream_id))

    def _begun(self, held: Held, restarts: list[Item]) -> None:
        self._waking.stir(refill=True)
        if restarts or not self.presence.workers():
            self._mailboxes.put_restarts(restarts)
            self._unheard = True
            self._stirred.set()

    def _ended(self, held: Held) -> None:
        self._mailboxes.drop(lambda item: item.held is held)
        self._solo = deque(item for item in self._solo if item.held is not held)
        self.states.drop(held)
        self._answers.drop(held)
        self.wakeups.drop(held)
        self.dispatcher.drop(held)

    def _settled(self, held: Held) -> bool:
        """Tell whether nothing of a partition is being decided or committed."""
        drafts = [self._draft, *([self._committing] if self._committing else [])]
        deciding = any(item.held is held for draft in drafts for item in draft.items)
        return not deciding and not self._mailboxes.holds(lambda item: item.held is held)

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

    # deciding

    async def _decide_for_ever(self) -> None:
        while True:
            await self._stirred.wait()
            await asyncio.sleep(0)  # what this turn of the event loop still delivers goes into the same batch
            try:
                await self._turn()
            except (UnavailableError, TimeoutError) as problem:
                self._abandon(problem)

    async def _rest_for_ever(self) -> None:
        while True:
            await self._clock.sleep(until_tick(self._clock.monotonic(), self.cadence.rest_s))
            open_draft = self._committing or self._draft
            self._publisher.rest(open_draft.number - 1)

    async def _turn(self) -> None:
        if self._unheard:
            self._unheard = False
            self.dispatcher.ask_beats()
        if self._solo:
            if self._committing is None and not self._draft.items:
                await self._decide_alone(self._solo.popleft())
            return
        draft = self._draft
        room = draft.room_left
        items = self._mailboxes.take(room) if room else []
        try:
            if items:
                await self._deciding.decide(draft, items)
            if self._committing is None and draft.items and not draft.void:
                await self._deciding.close(draft)
                self._submit(draft)
        except SpoiltError as problem:
            if not draft.void:
                _logger.warning("a batch is done one message an append: %s", problem.cause, exc_info=problem.cause)
                self._isolate(draft.items)
        if len(self._mailboxes) and self._draft.room_left:
            self._stirred.set()

    def _submit(self, draft: Draft) -> None:
        if draft.later:
            later = set(map(id, draft.later))
            draft.items = [item for item in draft.items if id(item) not in later]
            self._mailboxes.put_back(item for item in draft.later if not item.held.over)
        self._committing = draft
        self._draft = Draft(draft.number + 1)
        self._submitted.set()

    def _isolate(self, items: list[Item]) -> None:
        """Forget what was decided of items and do each alone, in order, before anything else."""
        self._draft.void = True
        self._draft = Draft(self._draft.number + 1)
        metrics.count("isolated")
        for item in items:
            item.again()
            held = item.held
            self.states.drop(held)
            held.drafted = held.position
            held.answering.clear()
        self._solo.extendleft(item for item in reversed(items) if not item.held.over)
        self._stirred.set()

    async def _decide_alone(self, item: Item) -> None:
        """Decide one message in a draft of its own; poison if that spoils its state again."""
        for _ in range(BODIES_FETCHED_MAX):
            draft = self._draft = Draft(self._draft.number + 1, alone=True)
            try:
                await self._deciding.decide(draft, [item])
                await self._deciding.close(draft)
            except SpoiltError as problem:
                item.again()
                self.states.forget(item.stream_id)
                item.held.drafted = item.held.position
                if isinstance(problem.cause, MissingError) and not await self.states.fetch(problem.cause.digests):
                    continue
                self._poison(item, problem.cause)
                return
            self._submit(draft)
            return
        self._poison(item, SpoiltError(RuntimeError("it needs ever more bodies")))

    def _poison(self, item: Item, cause: BaseException) -> None:
        draft = self._draft = Draft(self._draft.number + 1, alone=True)
        problem = PoisonError(f"{type(cause).__name__}: {cause}")
        problem.__cause__ = cause
        draft.items.append(item)
        self._deciding.poison(draft, item, problem)
        self._submit(draft)

    def _abandon(self, problem: BaseException) -> None:
        """End the tenures of a draft that could not be decided because the log does not answer."""
        _logger.warning("the log does not answer: %s", problem)
        draft, self._draft = self._draft, Draft(self._draft.number + 1)
        for held in {item.held for item in draft.items}:
            self.tenures.end(held)
        self._mailboxes.put_back(item for item in draft.later if not item.held.over)

    # committing

    async def _commit_for_ever(self) -> None:
        try:
            while True:
                await self._submitted.wait()
                if self._committing is not None:
                    await self._commit(self._committing)
                    self._committing = None
                if self._solo or self._draft.items or len(self._mailboxes):
                    self._stirred.set()
        finally:
            self._running = False

    async def _commit(self, draft: Draft) -> None:
        outcome = await self._committer.commit(draft)
        if outcome.refused is not None:
            self._refuse(draft, outcome.refused)
            return
        for held in outcome.over:
            self.tenures.end(held)
        if outcome.kept is not None:
            self._repeat(draft, outcome.kept)
        self._publisher.let_out(draft, outcome.standing)
        self.library.trim()
        self._publisher.evict(draft.number)
        self._waking.stir()

    def _repeat(self, draft: Draft, kept: Kept) -> None:
        """Decide a draft again, and what was decided behind it, now that it is known what was answered under its keys."""
        behind, self._draft = self._draft, Draft(self._draft.number + 1)
        items = undo((draft, behind), self.states)
        self._answers.met(kept, items)
        if draft.alone or self._solo:
            self._solo.extendleft(reversed(items))
        else:
            self._mailboxes.put_back(items)

    def _refuse(self, draft: Draft, problem: DataError) -> None:
        """The store refuses data of a draft: find whose, or park the one message that it is."""
        for part in draft.parts.values():
            self.states.drop(part.held)
        if not draft.alone:
            self._isolate([*draft.items, *self._draft.items])
            return
        self._isolate([*self._draft.items])
        (item,) = draft.items
        item.again()
        item.held.drafted = item.held.position
        item.held.answering.clear()
        self._solo.appendleft(item)
        item.refusal = PoisonError(f"{type(problem).__name__}: {problem.message}")
        item.refusal.__cause__ = problem
