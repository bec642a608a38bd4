"""Faults on the bus itself: streams and consumers taken away, old messages again, poison, messages that are too large."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import nats
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from headrace import codec, ids
from headrace.bus.subjects import FEED_PREFIX, ROOT, TRIGGER_PREFIX, token
from headrace.dev.embedded import NATS_PAYLOAD_BYTES_MAX
from headrace.errors import HeadraceError, TooLargeError
from headrace.keys import COMMANDS, OWNERS, POOL
from headrace.messages import Told
from headrace.testing.simulation.chance import Chance
from headrace.vocabulary import POOL_RUNNER, REQUEST_BYTES_MAX, WORKSPACE_DEFAULT
from tests.chaos.schedule import Fault
from tests.chaos.stand import Stand

KEPT: Final = 2_000
AGAIN: Final = 60
TIMEOUT_S: Final = 5.0
TRIES: Final = 20
TRIGGER_STREAM: Final = "headrace_trigger"


class BusFaults:
    """Someone on the bus who means no good: hears everything, and says it again, and worse."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._heard: deque[tuple[str, bytes]] = deque(maxlen=KEPT)
        self._nats: Nats | None = None
        self.feed_batches = 0

    async def open(self) -> None:
        """Begin to listen, over a connection without any fault."""
        self._nats = await nats.connect(
            self._stand.nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0.2, error_cb=_never_mind
        )
        root = f"{ROOT}.{token(self._stand.place.incarnation)}"
        for subject in (f"{root}.inbox.>", f"{root}.work.>", f"{root}.lines", TRIGGER_PREFIX + ">"):
            await self._nats.subscribe(subject, cb=self._hear)
        await self._nats.subscribe(f"{FEED_PREFIX}*", cb=self._count)
        self._root = root

    async def close(self) -> None:
        """Stop listening."""
        if self._nats is not None:
            await self._nats.close()

    async def _hear(self, message: Msg) -> None:
        self._heard.append((message.subject, message.data))

    async def _count(self, _: Msg) -> None:
        self.feed_batches += 1

    @property
    def nats(self) -> Nats:
        """Give the connection."""
        assert self._nats is not None, "open comes first"
        return self._nats

    async def streams(self, fault: Fault) -> bool:
        """Take a stream away, empty one, or take a consumer away; never the triggers, which users were promised."""
        chance, api = Chance(str(fault.number)), self.nats.jetstream()
        for _ in range(TRIES):
            try:
                names = sorted(info.config.name or "" for info in await api.streams_info())
                name = chance.choice([each for each in names if each != TRIGGER_STREAM])
                if fault.kind == "stream deleted":
                    return await api.delete_stream(name)
                if fault.kind == "stream purged":
                    return await api.purge_stream(name)
                consumers = [info.name for info in await api.consumers_info(name)]
                if consumers:
                    return await api.delete_consumer(name, chance.choice(consumers))
            except (NatsError, TimeoutError, IndexError):
                pass
            await asyncio.sleep(0.5)
        return False

    async def duplicates(self, fault: Fault) -> bool:
        """Say old messages again, raw, in any order: results, orders, receipts, lines, triggers."""
        chance, heard = Chance(str(fault.number)), list(self._heard)
        if not heard:
            return False
        return await self._say(chance.choices(heard, k=AGAIN))

    async def poison(self, fault: Fault) -> bool:
        """Say what nobody can read, or what is sealed well and means nothing."""
        chance, keys = Chance(str(fault.number)), self._stand.place.keys
        ghost = ids.make("run", self._stand.clock.now_ms(), chance.randbytes(16), chance.randrange(8))
        told = Told(stream_id=ghost, body=codec.raw({"type": "report_attempt"}), workspace=WORKSPACE_DEFAULT)
        bodies = [
            b"",
            chance.randbytes(200),
            b"{}",
            keys.pack(OWNERS, b"not JSON"),
            keys.pack(OWNERS, codec.encode(told)),
            keys.pack(POOL + POOL_RUNNER, codec.encode(told)),
            keys.pack(COMMANDS, b'{"body": {"type": "no_such_command"}}'),
            OWNERS.encode() + b"\n" + bytes(32) + codec.encode(told),
        ]
        subjects = [
            *(f"{self._root}.inbox.runs.{number}" for number in range(8)),
            *(f"{self._root}.{kind}.runs.{chance.randrange(8)}" for kind in ("command", "claim")),
            *(f"{self._root}.inbox.approvals.{number}" for number in range(4)),
            f"{self._root}.work.runner",
            f"{self._root}.work.gates",
            f"{self._root}.lines",
            f"{self._root}.control",
            f"{self._root}.presence",
            TRIGGER_PREFIX + "chaos",
            FEED_PREFIX + "runs",
        ]
        return await self._say([(subject, body) for subject in subjects for body in bodies])

    async def oversized(self, fault: Fault) -> bool:
        """Say more than anybody may: to the api, which refuses with 413, and to owners, on the bus."""
        large = b"x" * (NATS_PAYLOAD_BYTES_MAX - 4096)
        inboxes = [f"{self._root}.inbox.runs.{(fault.number + place) % 8}" for place in range(3)]
        said = await self._say(
            [(to, large) for to in (*inboxes, f"{self._root}.work.runner", TRIGGER_PREFIX + "chaos")]
        )
        async with self._stand.client() as client:
            body: dict[str, Any] = {"spec": "x" * (REQUEST_BYTES_MAX + 1)}
            try:
                await client.post("/runs", body)
            except TooLargeError:
                return said
            except HeadraceError:
                return False
        return False

    async def _say(self, messages: Sequence[tuple[str, bytes]]) -> bool:
        """Publish; False when no server is there and the client, which keeps what it cannot send, is full."""
        try:
            for subject, data in messages:
                await self.nats.publish(subject, data)
        except NatsError:
            return False
        return True


async def _never_mind(_: Exception) -> None:
    """Hear of broken connections: they are what this is about."""
