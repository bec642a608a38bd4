"""Being seen: beats, and what owners say to workers."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from headrace import beats, telemetry
from headrace.bus.port import Subscription
from headrace.clock import Clock, until_tick
from headrace.errors import ForbiddenError, UnauthorizedError, UnavailableError
from headrace.keys import OWNERS, POOL, Keys
from headrace.vocabulary import PRESENCE_INTERVAL_S
from headrace.waits import Signal
from headrace.wire import Beat, BeatNow, Control, Drain, EndChain, Interrupt, Probe

OPEN_RETRY_S = 0.5

log = logging.getLogger(__name__)


class Way(Protocol):
    """The part of a bus that presence needs: the bus itself, or its second connection on another thread."""

    @property
    def connected(self) -> bool:
        """Tell whether the server answers now."""
        ...

    def publish_presence(self, data: bytes) -> None:
        """Say that this worker lives, without waiting."""
        ...

    async def open_control(self, deliver: Callable[[bytes], None]) -> Subscription:
        """Receive what is told to every process."""
        ...


class Listener(Protocol):
    """Who acts on what owners say."""

    def interrupt(self, interrupt: Interrupt) -> None:
        """Stop an attempt."""
        ...

    def unchain(self, end: EndChain) -> None:
        """Let a chain end with what is performed now."""
        ...

    def drain(self, *, resume: bool) -> None:
        """Take no more work, or with `resume` take work again."""
        ...

    def reconnected(self) -> None:
        """Say again what a bus that was away may have forgotten."""
        ...


class Presence:
    """Tells owners that this worker lives and what it holds, and hears what they say; all on one loop.

    `beat` gives what there is to say, without its answer and its farewell. `run` serves until cancelled.
    """

    def __init__(
        self,
        way: Way,
        *,
        keys: Keys,
        clock: Clock,
        pools: Sequence[str],
        worker: str,
        beat: Callable[[], Beat],
        listener: Listener,
    ) -> None:
        self._way, self._keys, self._clock = way, keys, clock
        self._pools, self._worker = tuple(pools), worker
        self._beat, self._listener = beat, listener
        self._beat_now = Signal()
        self._asked: deque[str] = deque()
        self._left = False
        self._decoder: msgspec.json.Decoder[Control] = msgspec.json.Decoder(Control)

    def beat_now(self) -> None:
        """Beat at once, and again at the interval."""
        self._beat_now.set()

    def leave(self) -> None:
        """Say the last word: nobody counts on this worker any more, and nothing is said after it."""
        self._say(leaving=True)
        self._left = True

    async def run(self) -> None:
        """Listen, and beat at every interval and when asked."""
        subscription = await self._open()
        try:
            connected = True
            while True:
                while self._asked:
                    self._say(answers=self._asked.popleft())
                self._say()
                if self._way.connected and not connected:
                    self._listener.reconnected()
                connected = self._way.connected
                await self._beat_now.wait_for(until_tick(self._clock.monotonic(), PRESENCE_INTERVAL_S))
        finally:
            await subscription.close()

    async def _open(self) -> Subscription:
        while True:
            try:
                return await self._way.open_control(self._heard)
            except UnavailableError as problem:
                log.info("waiting for the bus: %s", problem.message)
                await self._clock.sleep(OPEN_RETRY_S)

    def _say(self, *, answers: str = "", leaving: bool = False) -> None:
        if self._left:
            return
        beat = self._beat()
        if answers or leaving:
            beat = msgspec.structs.replace(beat, answers=answers, leaving=leaving)
        for body in beats.messages(beat):
            self._way.publish_presence(self._keys.pack(POOL + self._pools[0], body))

    def _heard(self, packed: bytes) -> None:
        label = packed.partition(b"\n")[0].decode("ascii", "replace")
        if label != OWNERS and label.removeprefix(POOL) not in self._pools:
            return
        try:
            _, body = self._keys.unpack(packed)
            message = self._decoder.decode(body)
        except ForbiddenError:
            return  # sealed for those who hold the owners' key; each pool is told under its own
        except (UnauthorizedError, msgspec.DecodeError) as problem:
            log.warning("a control message was refused: %s", problem)
            telemetry.message_refused("control", "seal" if isinstance(problem, UnauthorizedError) else "malformed")
            return
        match message:
            case Interrupt():
                self._listener.interrupt(message)
            case EndChain():
                self._listener.unchain(message)
            case BeatNow(worker=worker, nonce=nonce):
                if worker in {"", self._worker}:
                    if nonce:
                        self._asked.append(nonce)
                    self.beat_now()
            case Drain():
                if message.worker == self._worker:
                    self._listener.drain(resume=message.resume)
            case Probe():
                self._way.publish_presence(packed)
