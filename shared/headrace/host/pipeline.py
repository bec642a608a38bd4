"""The pipeline: while one draft commits the next is decided; what cannot be committed is done again.

At most one append is in flight in a process. When nothing commits, a message is decided at once. A message that cannot
be processed is isolated: its batch is done again, one message an append, and what fails alone is parked. An append
whose outcome is not known ends the tenure of its partitions.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import chain

from headrace.clock import Clock
from headrace.decider import MissingError
from headrace.errors import UnavailableError
from headrace.host import metrics
from headrace.host.answers import Answers, Kept, undo
from headrace.host.committing import Committer
from headrace.host.deciding import Deciding
from headrace.host.dispatch import Dispatcher
from headrace.host.draft import Draft
from headrace.host.failures import PoisonError, SpoiltError
from headrace.host.items import Item
from headrace.host.loading import States
from headrace.host.mailboxes import Mailboxes
from headrace.host.publishing import Publisher
from headrace.host.tenure import Held
from headrace.log.port import DataError, Log
from headrace.waits import Signal

BODIES_FETCHED_MAX = 16
"""Rounds of fetching bodies for one message that is decided alone."""

_logger = logging.getLogger(__name__)


class Pipeline:
    """Takes items in, decides and commits them, and has the publisher let out what stands.

    `end` ends a tenure; `committed` is called after each draft whose fate is known.
    """

    def __init__(
        self,
        log: Log,
        clock: Clock,
        *,
        states: States,
        answers: Answers,
        dispatcher: Dispatcher,
        publisher: Publisher,
        end: Callable[[Held], None],
        committed: Callable[[], None],
    ) -> None:
        self._states = states
        self._answers = answers
        self._dispatcher = dispatcher
        self._publisher = publisher
        self._end = end
        self._committed = committed
        self._deciding = Deciding(clock, states, answers, dispatcher.knows)
        self._committer = Committer(log, clock)
        self._mailboxes = Mailboxes()
        self._solo: deque[Item] = deque()
        """What is decided one an append, before anything else."""
        self._stirred = Signal()
        self._submitted = Signal()
        self._committing: Draft | None = None
        self._draft = Draft(1)
        self._running = True
        self._unheard = False
        """Whether tenures began whose orders may be out already, since workers were asked what they hold."""

    # what comes in

    def put(self, item: Item) -> None:
        """Take an item in, unless its tenure is over."""
        if not item.held.over:
            self._mailboxes.put(item)
            self._stirred.set()

    def restart(self, restarts: list[Item]) -> None:
        """Take in what a new tenure goes on with, and ask workers what they hold before it is decided."""
        self._mailboxes.put_restarts(restarts)
        self._unheard = True
        self._stirred.set()

    def drop(self, held: Held) -> None:
        """Forget what waits of a tenure that is over."""
        self._mailboxes.drop(lambda item: item.held is held)
        self._solo = deque(item for item in self._solo if item.held is not held)

    # what others ask

    @property
    def waiting(self) -> int:
        """Give how many items wait to be decided."""
        return len(self._mailboxes)

    @property
    def idle(self) -> bool:
        """Tell whether nothing waits and nothing is under way."""
        return self._committing is None and not (len(self._mailboxes) or self._solo or self._draft.items)

    @property
    def running(self) -> bool:
        """Tell whether drafts are still committed."""
        return self._running

    @property
    def fated(self) -> int:
        """Give the number of the last draft whose fate is known."""
        return (self._committing or self._draft).number - 1

    def settled(self, held: Held) -> bool:
        """Tell whether nothing of a tenure waits, is being decided or is being committed."""
        committing = self._committing.items if self._committing is not None else ()
        under_way = chain(committing, self._draft.items, self._solo)
        return not any(item.held is held for item in under_way) and not self._mailboxes.holds(
            lambda item: item.held is held
        )

    # deciding

    async def decide_for_ever(self) -> None:
        """Decide what comes in until cancelled."""
        while True:
            await self._stirred.wait()
            await asyncio.sleep(0)  # what this turn of the event loop still delivers goes into the same batch
            try:
                await self._turn()
            except (UnavailableError, TimeoutError) as problem:
                self._abandon(problem)

    async def _turn(self) -> None:
        if self._unheard:
            self._unheard = False
            self._dispatcher.ask_beats()
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
        except (SpoiltError, DataError) as problem:
            if not draft.void:
                cause = _cause(problem)
                _logger.warning("a batch is done one message an append: %s", cause, exc_info=cause)
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
            self._states.drop(item.held)
            _take_back(item)
        self._solo.extendleft(item for item in reversed(items) if not item.held.over)
        self._stirred.set()

    async def _decide_alone(self, item: Item) -> None:
        """Decide one message in a draft of its own; poison if that spoils its state again."""
        for _ in range(BODIES_FETCHED_MAX):
            draft = self._draft = Draft(self._draft.number + 1, alone=True)
            item.held.drafted = item.held.position  # what was committing when it was isolated is committed by now
            try:
                await self._deciding.decide(draft, [item])
                await self._deciding.close(draft)
            except (SpoiltError, DataError) as problem:
                _take_back(item)
                self._states.forget(item.stream_id)
                cause = _cause(problem)
                if isinstance(cause, MissingError) and not await self._states.fetch(cause.digests):
                    continue
                self._poison(item, cause)
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
            self._end(held)
        self._stirred.set()  # others wait, and nothing commits that would say so

    # committing

    async def commit_for_ever(self) -> None:
        """Commit what was decided until cancelled."""
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
            self._end(held)
        if outcome.kept is not None:
            self._repeat(draft, outcome.kept)
        self._publisher.let_out(draft, outcome.standing)
        self._publisher.evict(draft.number)
        self._committed()

    def _repeat(self, draft: Draft, kept: Kept) -> None:
        """Decide a draft again, and what was decided behind it, now that it is known what was answered under its keys."""
        behind, self._draft = self._draft, Draft(self._draft.number + 1)
        items = undo((draft, behind), self._states)
        self._answers.met(kept, items)
        if draft.alone or self._solo:
            self._solo.extendleft(reversed(items))
        else:
            self._mailboxes.put_back(items)

    def _refuse(self, draft: Draft, problem: DataError) -> None:
        """The store refuses data of a draft: find whose, or park the one message that it is."""
        for part in draft.parts.values():
            self._states.drop(part.held)
        if not draft.alone:
            self._isolate([*draft.items, *self._draft.items])
            return
        self._isolate([*self._draft.items])
        (item,) = draft.items
        _take_back(item)
        self._solo.appendleft(item)
        item.refusal = PoisonError(f"{type(problem).__name__}: {problem.message}")
        item.refusal.__cause__ = problem


def _take_back(item: Item) -> None:
    """Forget what was decided of an item, and the answer under its key: neither will be committed as it was."""
    item.again()
    item.held.drafted = item.held.position
    item.held.answering.clear()


def _cause(problem: SpoiltError | DataError) -> BaseException:
    """Say what is amiss with a message: what spoilt a state, or that the store refuses what is asked of it."""
    return problem.cause if isinstance(problem, SpoiltError) else problem
