"""Publishing: what leaves once a draft is committed: work, interrupts, messages, answers, the feed, receipts."""

import logging
from collections.abc import Mapping, Sequence

from headrace.bus.port import Bus
from headrace.clock import Clock
from headrace.decider import Dispatch, MissingError, Stop, Tell, Unchain
from headrace.host import feed, metrics
from headrace.host.answers import Answers
from headrace.host.calling import guarded
from headrace.host.chores import Chores
from headrace.host.dispatch import Dispatcher
from headrace.host.draft import Draft, Ended, Part, Sent
from headrace.host.endings import Endings
from headrace.host.failures import PoisonError
from headrace.host.items import Item
from headrace.host.loading import States, is_due, snapshot
from headrace.host.measuring import measure
from headrace.host.telling import Telling
from headrace.host.tenure import Stream
from headrace.host.wakeups import Wakeups
from headrace.keys import Keys
from headrace.log.port import Log
from headrace.messages import ReportAttempt

PUSHED_ITEMS_MAX = 8
"""Messages in a batch up to which what others wait for goes out ahead of the feed: of more, a write more costs more."""
SNAPSHOT_EVENTS_MIN = 20
"""Events that a state must be ahead of its snapshot to be kept when it is evicted."""

_logger = logging.getLogger(__name__)


class Publisher:
    """Lets out what committed drafts caused. Nothing here waits: what must be waited for is a chore."""

    def __init__(
        self,
        log: Log,
        bus: Bus,
        *,
        clock: Clock,
        keys: Keys,
        dispatcher: Dispatcher,
        wakeups: Wakeups,
        states: States,
        answers: Answers,
        tells: Chores,
        chores: Chores,
    ) -> None:
        self._log = log
        self._bus = bus
        self._clock = clock
        self._dispatcher = dispatcher
        self._wakeups = wakeups
        self._states = states
        self._answers = answers
        self._telling = Telling(bus, keys, tells)
        self._chores = chores
        self._endings = Endings(bus)

    def let_out(self, draft: Draft, standing: Sequence[tuple[Part, int]]) -> None:
        """Let the parts of a draft out that stand, each with the position after which its events do."""
        for part, _ in standing:
            self._let_out(draft, part)
        self._dispatcher.pump()
        if len(draft.items) <= PUSHED_ITEMS_MAX:
            self._bus.push()
        for part, after in standing:
            self._tell_readers(draft, part, after)
        self._telling.send()

    def _let_out(self, draft: Draft, part: Part) -> None:
        """Let out what somebody waits for: orders, answers, receipts, ends."""
        for sent in part.effects:
            self._send(part, sent)
        for item in part.items:
            self._finish(item)
            if item.end_to and item.created:
                self._endings.expect(item.stream_id, item.end_to)
        for stream_id, end in part.ends.items():
            if end.finished:
                self._dispatcher.finished(stream_id)
                self._endings.over(end.stream, exact=end.stream.touched == draft.number)

    def _tell_readers(self, draft: Draft, part: Part, after: int) -> None:
        """Tell the readers of the feed, and note what follows for this process."""
        for message in feed.messages(self._log.incarnation, part.held, after, part.events):
            self._bus.publish_feed(part.held.log, message)
        measure(part)
        now = self._clock.now_ms()
        kept: dict[str, tuple[int, bytes]] = {}
        held = part.held
        for stream_id, end in part.ends.items():
            if end.woken and end.wake_at is not None and end.wake_at <= now:
                self._wakeups.put_off(held, stream_id, now, changed=end.changed, latest=end.next_at)
            else:
                self._wakeups.note(held, stream_id, end.wake_at, now)
            if end.changed:
                held.poisoned.pop(stream_id, None)
                self._keep(end.stream, draft.number, kept, finished=end.finished)
        if held.poisoned:
            for item in part.items:
                if item.stream_id in held.poisoned and item.stream_id not in part.ends:
                    self._wakeups.put_off(held, item.stream_id, now, changed=False)
        if kept:
            self._put_snapshots(held.log, held.room.fingerprint, kept)

    def evict(self, committed: int) -> None:
        """Let states go that are too many, with a snapshot where it pays."""
        if self._states.full:
            self._let_go(self._states.trim(committed))

    def rest(self, committed: int) -> None:
        """Let states go that nothing has happened to for a while."""
        self._let_go(self._states.rest(committed))

    def _let_go(self, gone: Sequence[Stream]) -> None:
        by_room: dict[tuple[str, str], dict[str, tuple[int, bytes]]] = {}
        for stream in gone:
            worth = stream.since >= SNAPSHOT_EVENTS_MIN and not stream.held.over
            if worth and (made := _written(stream)) is not None:
                place = (stream.held.log, stream.held.room.fingerprint)
                by_room.setdefault(place, {})[stream.in_log] = made
        for (log, fingerprint), kept in by_room.items():
            self._put_snapshots(log, fingerprint, kept)

    def _finish(self, item: Item) -> None:
        if item.key is not None:
            self._answers.committed(item)
        if item.reply is not None and item.outcome is not None:
            item.reply(item.outcome)
        if item.sequence is not None:
            item.held.settle(item.sequence)

    def _send(self, part: Part, sent: Sent) -> None:
        match sent.effect:  # what comes most often first
            case Ended(command=command):
                answered = isinstance(command, ReportAttempt)
                performed_s = _performed_s(command) if isinstance(command, ReportAttempt) else 0.0
                self._dispatcher.over(command.attempt_id, answered=answered, performed_s=performed_s)
            case Dispatch() as dispatch:
                self._dispatcher.offer(part.held, dispatch, suspect=sent.suspect)
            case Tell() as tell:
                self._telling.put(tell)
            case Unchain() as unchain:
                self._dispatcher.unchain(unchain)
            case Stop() as stop:
                self._dispatcher.stop(stop)

    def _keep(self, stream: Stream, number: int, kept: dict[str, tuple[int, bytes]], *, finished: bool) -> None:
        if stream.touched != number:
            return
        if finished:
            self._states.retire(stream)
        elif is_due(stream) and (made := _written(stream)) is not None:
            kept[stream.in_log] = made
            self._states.measured(stream, len(made[1]))

    def _put_snapshots(self, log: str, fingerprint: str, kept: Mapping[str, tuple[int, bytes]]) -> None:
        if kept:
            self._chores.put(lambda: self._log.keep_snapshots(log, fingerprint, kept))


def _written(stream: Stream) -> tuple[int, bytes] | None:
    """Write a state for the snapshot cache; None where its room cannot: its events stand for it."""
    try:
        return guarded(snapshot, stream)
    except (PoisonError, MissingError) as problem:
        stream.since = 0  # it is tried again after as many events
        metrics.count("snapshots_failed")
        _logger.error("the state of %s cannot be kept: %s", stream.in_log, problem, exc_info=problem)  # noqa: TRY400  (where it was raised is in the cause)
        return None


def _performed_s(command: ReportAttempt) -> float:
    """Give for how long an attempt was performed, by its worker's own clock."""
    if command.started_at is None or command.finished_at is None:
        return 0.0
    return max(command.finished_at - command.started_at, 0) / 1000
