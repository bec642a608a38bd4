"""Preparing: brings outside answers into commands before they are decided, beside the loop that decides.

Workspaces take turns: a burst of one does not keep another's command from being prepared next.
"""

import logging
from collections.abc import Callable

from headrace.clock import Clock
from headrace.decider import Context
from headrace.errors import HeadraceError, UnavailableError
from headrace.host import metrics
from headrace.host.calling import guarded
from headrace.host.chores import Chores
from headrace.host.failures import PoisonError
from headrace.host.intake import Intake
from headrace.host.items import Item, Origin
from headrace.host.mailboxes import Turns

PREPARERS_MAX = 32
"""Commands that are prepared at once."""

_logger = logging.getLogger(__name__)


class Preparing:
    """Passes items on to `put`, those that a preparer concerns by way of it."""

    def __init__(self, clock: Clock, chores: Chores, put: Callable[[Item], None], retry_s: float) -> None:
        self._clock = clock
        self._chores = chores
        self._put = put
        self._retry_s = retry_s
        self._line = Turns()
        self.intake: Intake | None = None

    def pass_on(self, item: Item) -> None:
        """Prepare an item if need be, name its stream, and queue it."""
        preparer = item.held.preparer
        kinds = getattr(preparer, "prepares", None)
        outside = item.origin is Origin.INBOX or item.origin is Origin.COMMAND
        if preparer is not None and outside and (kinds is None or isinstance(item.command, kinds)):
            if self._at_once(item):
                return
            self._line.put(item)
            self._chores.put(self._prepare_next)
        else:
            self._place(item)

    async def _prepare_next(self) -> None:
        item = self._line.take()
        if item is not None:
            await self._prepare(item)

    def _at_once(self, item: Item) -> bool:
        """Prepare an item here and now if its preparer need not read anything for it; False when it has to wait."""
        prepare = getattr(item.held.preparer, "at_once", None)
        if prepare is None:
            return False
        try:
            found = guarded(prepare, item.command, self._context(item))
        except PoisonError as problem:
            cause = problem.__cause__
            if not isinstance(cause, HeadraceError):
                self._broken(item, cause or problem)
                return True
            item.refusal = cause
        else:
            if found is None:
                return False
            item.command = found
        self._place(item)
        return True

    def _context(self, item: Item) -> Context:
        return Context(
            now=self._clock.now_ms(),
            stream_id=item.stream_id,
            workspace=item.workspace or "",
            actor=item.actor,
            key=item.key,
        )

    async def _prepare(self, item: Item) -> None:
        context = self._context(item)
        while not item.held.over:
            try:
                item.command = await item.held.preparer.prepare(item.command, context)
            except UnavailableError as problem:
                if item.origin is Origin.INBOX:
                    _logger.info("%s is prepared again: %s", item.cause, problem)
                    await self._clock.sleep(self._retry_s)
                    continue
                item.refusal = problem
            except HeadraceError as problem:
                item.refusal = problem
            except Exception as problem:
                raise self._broken(item, problem) from problem
            self._place(item)
            return

    def _broken(self, item: Item, problem: BaseException) -> PoisonError:
        """Refuse what a mistake in the preparer broke; the caller meets an error, the log says where."""
        metrics.count("poison")
        _logger.error("%s could not be prepared: %s", item.cause, problem, exc_info=problem)
        item.refusal = PoisonError(f"{type(problem).__name__}: {problem}")
        self._place(item)
        return item.refusal

    def _place(self, item: Item) -> None:
        assert self.intake is not None, "wired by the owner host"
        try:
            guarded(self.intake.place, item)
        except PoisonError as problem:
            cause = problem.__cause__
            item.refusal, item.stream_id = cause if isinstance(cause, HeadraceError) else problem, ""
            self.intake.place(item)
        self._put(item)
