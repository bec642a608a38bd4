"""What people ask of workers, done by the owner host itself: it holds the pools' keys and knows who holds which attempt.

These commands come like any other, sealed and with the roles of who sent them, but concern no stream: nothing of them
is recorded. What a rescue loses becomes an event of each run concerned.
"""

import logging
from typing import Final

import msgspec

from headrace import codec
from headrace.bus.port import Bus
from headrace.errors import ConflictError, ForbiddenError, NotFoundError
from headrace.host.dispatch import Dispatcher
from headrace.host.presence import Presence, Seen
from headrace.keys import POOL, Keys
from headrace.messages import Answer, Command
from headrace.vocabulary import RESCUE_SILENT_S, Role
from headrace.wire import AskWorker, BeatNow, Drain, DrainWorker, RescueWorker, WorkerCommand

logger = logging.getLogger(__name__)
_decoder: Final[msgspec.json.Decoder[WorkerCommand]] = msgspec.json.Decoder(WorkerCommand)
OPERATORS: Final = frozenset({Role.OPERATOR, Role.ADMIN})


class Overseer:
    """Carries out commands about workers."""

    def __init__(self, bus: Bus, keys: Keys, presence: Presence, dispatcher: Dispatcher) -> None:
        self._bus, self._keys, self._presence, self._dispatcher = bus, keys, presence, dispatcher

    def answer(self, command: Command) -> bytes | None:
        """Carry out a command and give its answer; None for one that is not about workers.

        Raises ForbiddenError, NotFoundError (no such worker), ConflictError (it beats).
        """
        try:
            known = _decoder.decode(command.body)
        except msgspec.ValidationError:
            return None
        if OPERATORS.isdisjoint(command.actor.roles):
            message = f"token {command.actor.name!r} may not act on workers; this needs one of: admin, operator"
            raise ForbiddenError(message)
        if not isinstance(known, AskWorker):
            logger.warning("%s asks: %s", command.actor.name, known)
        match known:
            case AskWorker():
                done = self._tell(known.worker, BeatNow(worker=known.worker, nonce=known.nonce))
            case DrainWorker():
                done = self._tell(known.worker, Drain(worker=known.worker, resume=known.resume))
            case RescueWorker():
                done = self._rescue(known)
        return codec.encode(Answer(status=200, body=codec.raw(done)))

    def _tell(self, worker: str, message: BeatNow | Drain) -> dict[str, object]:
        seen = self._presence.worker(worker)
        if seen is None:
            problem = f"no worker {worker} was heard of lately"
            raise NotFoundError(problem)
        self._bus.publish_control(self._keys.pack(POOL + self._pool(seen), codec.encode(message)))
        return {"worker": worker}

    def _pool(self, seen: Seen) -> str:
        """Give a pool of the worker's whose key is here; raises ForbiddenError when there is none."""
        for pool in seen.beat.pools:
            try:
                self._keys.key(POOL + pool)
            except ForbiddenError:
                continue
            return pool
        message = f"this owner holds the key of no pool that {seen.beat.worker} serves"
        raise ForbiddenError(message)

    def _rescue(self, command: RescueWorker) -> dict[str, object]:
        silent_s = self._presence.silent_s(command.worker)
        if silent_s is not None and silent_s < RESCUE_SILENT_S and not command.forced:
            message = f"{command.worker} lives: it was heard {silent_s:.1f} s ago, so its attempts are not given up"
            raise ConflictError(message, details={"silent_s": round(silent_s, 1)})
        lost = self._dispatcher.rescue(command.worker)
        if silent_s is not None and silent_s >= RESCUE_SILENT_S:
            self._presence.give_up(command.worker)
        return {"worker": command.worker, "lost": lost}
