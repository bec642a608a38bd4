"""Telling: what a commit has to say to other streams goes as one message to each of their partitions.

A receipt, a question, an outcome each take a publish and an ack, on this side and in NATS; together they take one of
each. Nothing waits for company: what one commit says leaves with it.
"""

from functools import partial

from headrace import codec, ids
from headrace.bundles import bundles
from headrace.bus.port import Bus
from headrace.codec import Raw
from headrace.decider import Tell
from headrace.host import metrics
from headrace.host.chores import Chores
from headrace.keys import OWNERS, SEAL_BYTES, Keys
from headrace.messages import Told
from headrace.vocabulary import MESSAGE_BYTES_MAX

ALONE_BYTES_MAX = MESSAGE_BYTES_MAX - SEAL_BYTES - len(OWNERS) - 1


class Telling:
    """What the commit that is being let out has to say; `chores` sends it."""

    def __init__(self, bus: Bus, keys: Keys, chores: Chores) -> None:
        self._bus = bus
        self._keys = keys
        self._chores = chores
        self._waiting: dict[tuple[str, int], list[bytes]] = {}

    def put(self, tell: Tell) -> None:
        """Take one message; one that no message carries is counted and dropped."""
        told = Told(stream_id=tell.stream_id, body=Raw(codec.encode(tell.command)), workspace=tell.workspace)
        body = codec.encode(told)
        if len(body) > ALONE_BYTES_MAX:
            metrics.count("tells_too_large")
            return
        self._waiting.setdefault((tell.log, ids.partition_of(tell.stream_id)), []).append(body)

    def send(self) -> None:
        """Send what was taken."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        for (log, partition), told in waiting.items():
            for body in bundles(told):
                self._chores.put(partial(self._bus.tell, log, partition, self._keys.pack(OWNERS, body)))
