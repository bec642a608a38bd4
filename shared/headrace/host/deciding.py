"""Deciding: items become events, rows, effects and answers of a draft. Nothing here lets anything out."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from headrace import codec
from headrace.clock import Clock
from headrace.decider import Context, Dispatch, Effect, Keep, MissingError, Rejection, Tell
from headrace.errors import KEY_HEADER, HeadraceError, UnprocessableError
from headrace.events.base import Event
from headrace.host import metrics
from headrace.host.answers import Answers
from headrace.host.bundles import gathered, released, said
from headrace.host.calling import guarded, next_decision, outstanding, receipts
from headrace.host.closing import end_of, light
from headrace.host.draft import Draft, Ended, Part, Sent, meta_of, name_of, parked, refusal_of, refused
from headrace.host.failures import AbsentError, PoisonError, SpoiltError, UnaskedError
from headrace.host.items import ADVANCE, Item, Origin, advance
from headrace.host.loading import States
from headrace.host.tenure import Stream
from headrace.log.port import KeptAnswer, NewEvent
from headrace.messages import Answer, LoseAttempt, ReportAttempt, Wake

KEY_USED = "the Idempotency-Key {!r} was used for another request: send this one under a key of its own"

_logger = logging.getLogger(__name__)


class Deciding:
    """Runs rooms. `knows` tells whether the dispatcher has an attempt already."""

    def __init__(self, clock: Clock, states: States, answers: Answers, knows: Callable[[str], bool]) -> None:
        self._clock = clock
        self._states = states
        self._answers = answers
        self._knows = knows

    async def decide(self, draft: Draft, items: list[Item]) -> None:
        """Decide items into a draft, fetching what they need.

        Raises UnavailableError when the log does not answer, SpoiltError when a state must be made again: then the
        whole draft is to be done again, one item an append. Stops where the draft becomes void meanwhile.
        """
        draft.items.extend(items)
        await self._states.load(items)
        if draft.alone or self._answers.wary:
            await self._answers.ask(items)
        absent: set[str] = set()
        waiting = items
        while waiting and not draft.void:
            wanted: set[str] = set()
            waiting = self._pass(draft, waiting, wanted, absent)
            if waiting:
                await self._answers.ask(waiting)
            if wanted:
                absent |= await self._states.fetch(wanted)

    async def close(self, draft: Draft) -> None:
        """Add the projection rows, and what follows from the states as they are now; raises as `decide`."""
        for part in draft.parts.values():
            for stream, events in part.changed.values():
                try:
                    part.rows.extend(stream.held.room.rows(stream.state, events))
                except MissingError:
                    part.rows.extend(await self._rows(stream, events))
                except Exception as problem:
                    raise SpoiltError(problem) from problem
            now = self._clock.now_ms()
            woken = {item.stream_id: True for item in part.items if type(item.command) is Wake}
            changed = {stream.stream_id: True for stream, _ in part.changed.values()}
            for stream_id in changed | woken if woken else changed:
                touched = part.touched.get(stream_id)
                if touched is not None:
                    part.ends[stream_id] = end_of(touched, now, woken=stream_id in woken, changed=stream_id in changed)

    async def _rows(self, stream: Stream, events: Sequence[Event]) -> list[Any]:
        absent: set[str] = set()
        while True:
            try:
                return list(stream.held.room.rows(stream.state, events))
            except MissingError as problem:
                if absent & set(problem.digests):
                    raise SpoiltError(problem) from problem
                absent |= await self._states.fetch(problem.digests)
            except Exception as problem:
                raise SpoiltError(problem) from problem

    def _pass(self, draft: Draft, items: list[Item], wanted: set[str], absent: set[str]) -> list[Item]:
        """Decide what can be decided; gives the items whose streams must wait for bodies or answers, in order."""
        blocked: set[str] = set()
        waiting: list[Item] = []
        alone = len(items) == 1 and not items[0].others
        queue = deque(items if alone else gathered(items))
        while queue:
            item = queue.popleft()
            if item.held.over:
                continue
            if item.stream_id in blocked:
                waiting.append(item)
                continue
            if not item.decided and draft.exhausted(item.stream_id):
                draft.later.extend(released(item))
                continue
            try:
                self._one(draft, item, queue)
            except UnaskedError:
                blocked.add(item.stream_id)
                waiting.append(item)
            except MissingError as problem:
                if absent.isdisjoint(problem.digests):
                    wanted.update(problem.digests)
                    blocked.add(item.stream_id)
                    waiting.append(item)
                elif item.others and not item.decided:
                    queue.extendleft(reversed(released(item)))
                else:
                    self.poison(draft, item, AbsentError(f"no store holds {', '.join(problem.digests)}"))
            except PoisonError as problem:
                if item.others and not item.decided:
                    queue.extendleft(reversed(released(item)))
                    continue
                if not item.decided and self._answers.unasked(item):
                    blocked.add(item.stream_id)
                    waiting.append(item)
                    continue
                self.poison(draft, item, problem)
                if item.part > 0 and not item.decided:  # the first results of a chain stand, and must lead somewhere
                    draft.later.append(advance(item.held, item.stream_id))
        return waiting

    def _one(self, draft: Draft, item: Item, queue: deque[Item]) -> None:
        part = draft.part(item.held)
        stream = self._stream(item)
        part.touched[stream.stream_id] = stream
        kept = None if item.decided else self._answers.of(item)
        if kept is not None and kept.request_digest == item.request_digest:
            metrics.count("repeats")  # whatever a preparer found meanwhile: it was done, and this is what was said
            metrics.decided(item.held.log, "repeated")
            self._finish(part, item, kept.answer)
            return
        if not item.decided and (refusal := refusal_of(stream, item)) is not None:
            self._refuse(part, item, refusal)
            return
        if kept is not None:
            key = (item.key or "").removeprefix(f"{item.workspace}/").removeprefix(f"{item.stream_id}/")
            self._refuse(part, item, UnprocessableError(KEY_USED.format(key), details={"field": KEY_HEADER}))
            return
        context, part.trace = self._context(stream, item), item.traceparent
        if item.others and not item.decided:
            self._together(draft, part, stream, item, context, queue)
        if not item.decided and not self._decided(draft, part, stream, item, context):
            return
        self._advance(draft, part, stream, item, context)
        self._answer(part, stream, item)

    def _stream(self, item: Item) -> Stream:
        try:
            return self._states.stream(item.held, item.stream_id, item.workspace or "", self._clock.now_ms())
        except MissingError:
            raise
        except Exception as problem:
            message = f"the state of {item.stream_id} cannot be made from its history: {problem!r}"
            raise PoisonError(message) from problem

    def _context(self, stream: Stream, item: Item) -> Context:
        return Context(
            now=self._clock.now_ms(),
            stream_id=stream.stream_id,
            workspace=stream.workspace,
            actor=item.actor,
            key=item.key,
        )

    def _decided(self, draft: Draft, part: Part, stream: Stream, item: Item, context: Context) -> bool:
        """Decide the item's own command; False when it was refused."""
        room, suspect = stream.held.room, stream.stream_id in stream.held.unproven
        if not suspect and item.restart:
            self._finish(part, item, None)
            return False
        if item.command is ADVANCE:  # whatever goes on by itself does so in one place: there a stream may end and go on
            self._repair(draft, part, stream, item, context)
            item.decided = True
            return True
        new = stream.version == 0
        commands = item.commands
        while item.part < len(commands):
            events, count = next_decision(room, stream, commands[item.part :], context)
            if type(events) is Rejection:
                if item.part > 0:
                    break  # what follows in a chain rests on what is refused
                self._refuse(part, item, events.error)
                return False
            self._repair(draft, part, stream, item, context)
            self._record(draft, part, stream, item, events, context)
            part.effects.extend(Sent(Ended(command)) for command in commands[item.part : item.part + count - 1])
            item.part += count
            self._decided_one(draft, part, stream, item, commands[item.part - 1], events, context)
        item.decided, item.created = True, new and stream.version > 0
        part.accepted += item.origin is not Origin.HOST
        return True

    def _together(
        self, draft: Draft, part: Part, stream: Stream, item: Item, context: Context, queue: deque[Item]
    ) -> None:
        """Decide results that came together as one, as far as the room says; the others follow by themselves."""
        room, others = stream.held.room, item.others
        decide = getattr(room, "together", None)
        events, count = ((), 0) if decide is None else guarded(decide, stream.state, said(item), context)
        queue.extendleft(reversed(gathered(others[max(count - 1, 0) :])))
        item.others = others[: max(count - 1, 0)]
        if not count:
            return
        self._repair(draft, part, stream, item, context)
        self._record(draft, part, stream, item, events, context)
        for member in (item, *item.others):
            member.decided = True
            if not guarded(room.awaits, stream.state, member.command):
                part.effects.append(Sent(Ended(member.command)))
        self._receipts(draft, part, stream, item.command, context, suspect=item.restarted)
        part.accepted += count

    def _repair(self, draft: Draft, part: Part, stream: Stream, item: Item, context: Context) -> None:
        """Set going again what should be under way of a stream that a new tenure meets, before anything happens in it."""
        if stream.stream_id in stream.held.unproven and not item.restarted:
            found = guarded(outstanding, stream.held.room, stream, context.now)
            stream.held.unproven.discard(stream.stream_id)
            item.restarted = True
            self._emit(draft, part, stream, found, suspect=True)

    def _decided_one(
        self,
        draft: Draft,
        part: Part,
        stream: Stream,
        item: Item,
        command: Any,
        events: Sequence[Event],
        context: Context,
    ) -> None:
        """Note what a recorded command ends, bring its bodies, and give what it earns."""
        room = stream.held.room
        if type(command) is ReportAttempt or type(command) is LoseAttempt:
            awaits = getattr(room, "awaits", None)  # a refused claimer's word ends nobody's work
            if awaits is None or not guarded(awaits, stream.state, command):
                part.effects.append(Sent(Ended(command)))
        if events and (bodies := guarded(room.attachments, command)):
            part.blobs.update(bodies)
        self._receipts(draft, part, stream, command, context, suspect=item.restarted)

    def _advance(self, draft: Draft, part: Part, stream: Stream, item: Item, context: Context) -> None:
        """Let the stream go on by itself until it yields nothing, or has emitted its share of the batch."""
        room = stream.held.room
        while stream.version > 0:
            if draft.exhausted(stream.stream_id):
                draft.later.append(advance(stream.held, stream.stream_id))
                metrics.count("continued")
                return
            events = guarded(room.decide, stream.state, ADVANCE, context)
            if type(events) is Rejection:
                return
            self._record(draft, part, stream, item, events, context)
            self._receipts(draft, part, stream, ADVANCE, context, suspect=item.restarted)
            if not events:
                return
            if stream.held.renews and (begins := guarded(room.heir, stream.state)):
                stream = self._states.renewed(stream, stream.workspace, context.now)
                part.touched[stream.stream_id] = stream
                self._record(draft, part, stream, item, begins, context)

    def _receipts(
        self, draft: Draft, part: Part, stream: Stream, command: Any, context: Context, *, suspect: bool
    ) -> None:
        earned = guarded(receipts, stream, command, context)
        if earned:
            self._emit(draft, part, stream, earned, suspect=suspect)

    def _record(
        self, draft: Draft, part: Part, stream: Stream, item: Item, events: Sequence[Event], context: Context
    ) -> None:
        """Evolve, and put events and what they set going into the draft; raises SpoiltError from half way."""
        if not events:
            return
        held, now, in_log = stream.held, context.now, stream.in_log
        room = held.room
        meta = item.meta = item.meta or meta_of(item)
        weight = parts = 0
        stream.touched = draft.number  # from here on, also half way, it is ahead of the draft that may be committing
        for event in events:
            try:
                stream.state = room.evolve(stream.state, event, now)
                effects = room.react(stream.state, event)
                effects = list(effects) if effects else ()
                data = codec.encode(event)
            except Exception as problem:
                raise SpoiltError(problem) from problem
            stream.version += 1
            weight += len(data)
            parts += len(event.parts)
            name = name_of(type(event))
            new = NewEvent(in_log, stream.version, name, event.SCHEMA, stream.workspace, now, data, meta)
            part.events.append(new)
            if effects:
                self._emit(draft, part, stream, effects, suspect=False)
        count = len(events)
        held.drafted += count
        draft.events += count
        draft.emit(stream.stream_id, count)
        changed = part.changed.get(in_log)
        if changed is None:
            part.changed[in_log] = stream, list(events)
        else:
            changed[1].extend(events)
        self._states.grown(stream, weight, parts)

    def _emit(self, draft: Draft, part: Part, stream: Stream, effects: Iterable[Effect], *, suspect: bool) -> None:
        count = 0
        for effect in effects:
            sent = effect
            if type(effect) is Dispatch:
                attempt_id = effect.order.attempt_id
                if attempt_id in part.dispatched or self._knows(attempt_id):
                    continue
                part.dispatched.add(attempt_id)
                order = light(effect.order, part, None if suspect else part.trace)
                sent = effect if order is effect.order else msgspec.structs.replace(effect, order=order)
            elif (type(effect) is Tell or type(effect) is Keep) and effect.bodies:
                part.blobs.update(effect.bodies)
                self._states.keep(effect.bodies)
            part.effects.append(Sent(sent, suspect))
            count += 1
        draft.emit(stream.stream_id, count)

    def _answer(self, part: Part, stream: Stream, item: Item) -> None:
        outcome: bytes | None = None
        if item.reply is not None:
            body = guarded(stream.held.room.answer, stream.state, item.command)
            if item.origin is Origin.CLAIM:
                outcome = codec.dumps(body)
            else:
                outcome = codec.encode(
                    Answer(
                        status=201 if item.created else 200,
                        stream_id=item.stream_id,
                        body=codec.raw(body),
                        position=stream.held.drafted,
                    )
                )
                if item.key is not None:
                    kept = KeptAnswer(item.key, item.request_digest, item.stream_id, outcome)
                    part.answers.append(kept)
                    stream.held.answering[item.key] = kept
        self._finish(part, item, outcome)

    def _refuse(self, part: Part, item: Item, error: HeadraceError) -> None:
        if self._answers.unasked(item):
            raise UnaskedError
        metrics.decided(item.held.log, error.type)
        self._finish(part, item, refused(item, error))

    def _finish(self, part: Part, item: Item, outcome: bytes | None) -> None:
        item.outcome = outcome
        part.items.append(item)
        part.items.extend(item.others)

    def poison(self, draft: Draft, item: Item, problem: HeadraceError) -> None:
        """Take a message out that cannot be processed: parked once, answered with an error, in nobody's way."""
        part = draft.part(item.held)
        metrics.count("poison")
        asked = item.origin is Origin.COMMAND and isinstance(problem, AbsentError)
        again = item.origin is Origin.HOST and item.held.poisoned.get(item.stream_id) == problem.message
        if not asked and not again:
            _logger.error("%s of %s was parked: %s", item.cause, item.stream_id, problem, exc_info=problem)
            part.parked.append(parked(item, problem, self._clock.now_ms()))
        if item.origin is Origin.HOST:
            item.held.poisoned[item.stream_id] = problem.message
        if item.decided and item.stream_id in part.touched:
            try:
                self._answer(part, part.touched[item.stream_id], item)
            except (PoisonError, MissingError):
                _logger.debug("%s of %s has no answer of its own", item.cause, item.stream_id)
            else:
                return
        self._finish(part, item, refused(item, problem))
