"""Intake: packed messages of the bus become items. What is not sealed by us, or cannot be read, stops here."""

import logging
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from headrace import codec, ids
from headrace.bus.port import Delivery
from headrace.clock import Clock, mint
from headrace.codec import Raw
from headrace.decider import Context
from headrace.errors import HeadraceError, UnauthorizedError, UnavailableError, ValidationError
from headrace.events.base import SYSTEM, Actor
from headrace.host import metrics
from headrace.host.draft import error_answer, printable
from headrace.host.items import Item, Origin
from headrace.host.tenure import Held
from headrace.keys import COMMANDS, OWNERS, POOL, Keys
from headrace.log.port import Parked
from headrace.messages import AnnounceTool, ClaimWrite, Command, ReportAttempt, Told
from headrace.vocabulary import IDEMPOTENCY_KEY_CHARS_MAX, LOG_APPROVALS, LOG_CATALOGUE, LOG_FLOW, LOG_RUNS
from headrace.wire import ClaimGrant

WAITING_MAX = 20_000
"""Items in memory beyond which commands are turned away, to be sent again."""
TRACEPARENT = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""The form of the trace that a command belongs to (https://www.w3.org/TR/trace-context/); other text is not kept."""
MINTED = {LOG_RUNS: ids.RUN, LOG_APPROVALS: ids.APPROVAL, LOG_CATALOGUE: ids.PLAN, LOG_FLOW: ids.FLOW}
OF_ONE_STREAM = frozenset({LOG_RUNS, LOG_APPROVALS})
"""Logs in which a key on a stream's own command says nothing of other streams, whichever partition they share."""
BUNDLE = b"["
"""How a message begins that brings several."""
FROM_WORKERS = (ReportAttempt, AnnounceTool)

_logger = logging.getLogger(__name__)
_commands = msgspec.json.Decoder(Command)
_told = msgspec.json.Decoder(Told)
_bundled = msgspec.json.Decoder(tuple[Raw, ...])


class Intake:
    """Reads messages for partitions. `put` queues an item, `park` keeps what cannot be read, `waiting` counts items."""

    def __init__(
        self,
        keys: Keys,
        clock: Clock,
        *,
        put: Callable[[Item], None],
        park: Callable[[Held, Parked, int | None], None],
        waiting: Callable[[], int],
        pool_of: Callable[[str], str | None],
        oversee: Callable[[Command], bytes | None],
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._put = put
        self._park = park
        self._waiting = waiting
        self._pool_of = pool_of
        self._oversee = oversee

    def command(self, held: Held, data: bytes, reply: Callable[[bytes], None]) -> None:
        """Take a command of a person or program; a bad one is refused at once, since that rests on no state."""
        if held.over or held.draining:
            return
        try:
            label, body = self._keys.unpack(data)
            if label != COMMANDS:
                message = f"commands are not sealed under {label!r}"
                raise UnauthorizedError(message)
            if self._waiting() >= WAITING_MAX:
                message = "more commands wait than fit in memory; try again"
                raise UnavailableError(message)
            item = self._command(held, body, reply)
            if item is not None:
                self._put(item)
        except HeadraceError as problem:
            if isinstance(problem, UnauthorizedError):
                self._report("command", problem)
            reply(error_answer(problem))

    def _command(self, held: Held, body: bytes, reply: Callable[[bytes], None]) -> Item | None:
        """Read a command; None for one about workers, which concerns no stream and is answered here."""
        known: Command | None = None
        try:
            known = _commands.decode(body)
            command = held.room.read_command(known.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            answer = self._oversee(known) if known is not None else None
            if answer is not None:
                reply(answer)
                return None
            message = f"the command cannot be read: {problem}"
            raise ValidationError(message) from problem
        if known.stream_id is not None:
            _check_home(held, known.stream_id)
        if known.key is not None:
            _check_key(known.key)
        digest = codec.sha256(f"{known.stream_id or ''}\n".encode() + bytes(known.body))
        return Item(
            held,
            Origin.COMMAND,
            known.stream_id or "",
            command,
            known.workspace,
            known.actor,
            body=body,
            key=None if known.key is None else _scope(held, known) + known.key,
            request_digest=digest,
            traceparent=_trace(known.traceparent),
            end_to=known.end_to,
            reply=reply,
        )

    def claim(self, held: Held, data: bytes, reply: Callable[[bytes], None]) -> None:
        """Take a worker's claim to act on the world."""
        if held.over or held.draining:
            return
        command: Any = None
        answer = reply
        try:
            label, body = self._keys.unpack(data)
            answer = self._sealing(label, reply)
            command = held.room.read_command(body)
            self._check_pool(label, command, (ClaimWrite,))
            _check_home(held, command.run_id)
            item = Item(held, Origin.CLAIM, command.run_id, command, body=body, actor=_worker(command.worker))
            item.reply = answer
            self._put(item)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, HeadraceError) as problem:
            self._report("claim", problem)
            nonce = command.nonce if isinstance(command, ClaimWrite) else ""
            answer(codec.encode(ClaimGrant(granted=False, nonce=nonce, reason=str(problem))))

    def _sealing(self, label: str, reply: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Seal grants under the key of the pool that asks: nobody else on the bus can give permission to act."""
        return lambda grant: reply(self._keys.pack(label, grant))

    def message(self, held: Held, delivery: Delivery) -> None:
        """Take a message of an inbox, from another stream or from a worker; it may bring several (see Told)."""
        if held.over or not held.progress.arrived(delivery.sequence):
            return
        body = delivery.data
        try:
            label, body = self._keys.unpack(delivery.data)
            parts = _bundled.decode(body) if body.startswith(BUNDLE) else (Raw(body),)
        except UnauthorizedError as problem:
            self._report("message", problem)
            held.settle(delivery.sequence)
            return
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, HeadraceError) as problem:
            self._unreadable(held, body, problem, delivery.sequence)
            return
        if not parts:
            held.settle(delivery.sequence)
            return
        if len(parts) > 1:
            held.progress.parted(delivery.sequence, len(parts))
        for part in parts:
            self._part(held, label, part, delivery.sequence)

    def _part(self, held: Held, label: str, part: Raw, sequence: int) -> None:
        """Take one of those that a message brings; whatever becomes of it, its neighbours go their way."""
        try:
            told = _told.decode(part)
            command = held.room.read_command(told.body)
            if label != OWNERS:
                self._check_pool(label, command, FROM_WORKERS)
            _check_home(held, told.stream_id)
        except UnauthorizedError as problem:
            self._report("message", problem)
            held.settle(sequence)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, HeadraceError) as problem:
            self._unreadable(held, bytes(part), problem, sequence)
        else:
            actor = told.actor or SYSTEM
            if type(command) in FROM_WORKERS:
                actor = _worker(command.worker)
            body = bytes(part)
            item = Item(
                held, Origin.INBOX, held.address(told.stream_id), command, told.workspace or None, actor, body=body
            )
            item.sequence, item.traceparent = sequence, _trace(told.traceparent)
            self._put(item)

    def _unreadable(self, held: Held, body: bytes, problem: Exception, sequence: int) -> None:
        """Keep a message that nobody can read, and go on behind it."""
        self._report("message", problem)
        error = printable(f"the message cannot be read: {problem}")
        parked = Parked(source=f"{held.log}/{held.partition}/inbox", error=error, body=body, at=self._clock.now_ms())
        self._park(held, parked, sequence)

    def place(self, item: Item) -> None:
        """Name the stream of a command that came without one: the preparer's route, else a new id."""
        if item.stream_id:
            return
        route = getattr(item.held.preparer, "route", None)
        if route is not None and item.refusal is None:
            now, workspace = self._clock.now_ms(), item.workspace or ""
            context = Context(now=now, stream_id="", workspace=workspace, actor=item.actor, key=item.key)
            item.stream_id = route(item.command, context) or ""
        if item.stream_id:
            _check_home(item.held, item.stream_id)
        else:
            item.stream_id = mint(self._clock, MINTED[item.held.log], item.held.partition)
            item.minted = True

    def _check_pool(self, label: str, command: object, allowed: tuple[type, ...]) -> None:
        """Hold a worker to what workers may say, and to attempts of its own pool."""
        if not label.startswith(POOL) or not isinstance(command, allowed):
            message = f"a sender under {label!r} may not send {type(command).__name__}"
            raise UnauthorizedError(message)
        if isinstance(command, ClaimWrite | ReportAttempt):
            self._check_attempt(label, command.attempt_id)
        if isinstance(command, ReportAttempt) and command.then:
            before = command
            for result in command.then:
                if (result.run_id, result.worker, result.after) != (command.run_id, command.worker, before.step):
                    message = f"{result.attempt_id} does not follow {before.attempt_id} in one worker's chain"
                    raise UnauthorizedError(message)
                self._check_attempt(label, result.attempt_id)
                before = result
        if isinstance(command, AnnounceTool) and label != POOL + command.manifest.pool:
            message = f"a sender under {label!r} may not announce {command.manifest.name!r} for pool {command.manifest.pool!r}"
            raise UnauthorizedError(message)

    def _check_attempt(self, label: str, attempt_id: str) -> None:
        pool = self._pool_of(attempt_id)
        if pool is not None and label != POOL + pool:
            message = f"a sender under {label!r} may not speak for an attempt of pool {pool!r}"
            raise UnauthorizedError(message)

    def _report(self, what: str, problem: Exception) -> None:
        metrics.refused(what, type(problem).__name__)
        _logger.warning("a %s was refused: %s", what, problem)


def _trace(given: str | None) -> str | None:
    """Give a W3C traceparent; what is none is left out, wherever it came from."""
    return given if given and TRACEPARENT.fullmatch(given) else None


@lru_cache(maxsize=1_024)
def _worker(name: str) -> Actor:
    return msgspec.structs.replace(SYSTEM, id=name, name=name)


def _check_home(held: Held, stream_id: str) -> None:
    home = ids.partition_of(stream_id)
    if home != held.partition:
        message = f"{stream_id} belongs to partition {home} of {held.log}, not to {held.partition}"
        raise ValidationError(message)


def _scope(held: Held, known: Command) -> str:
    """Say where a key counts: for one run or approval, or, of what makes or defines something, in its workspace."""
    own = known.stream_id is not None and held.log in OF_ONE_STREAM
    return f"{known.workspace}/{known.stream_id}/" if own else f"{known.workspace}/"


def _check_key(key: str) -> None:
    printable_text = key.isprintable() if key.isascii() else not any(unicodedata.category(one)[0] == "C" for one in key)
    if not key or len(key) > IDEMPOTENCY_KEY_CHARS_MAX or not printable_text:
        message = f"an idempotency key has 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable characters"
        raise ValidationError(message)
