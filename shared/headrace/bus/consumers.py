"""Consumers, made to stand; and made anew where no server of a cluster can lead them any more.

A server that has nothing of a consumer's own log counts for no majority (nats-server since 2.12, its PR 7038). So a
consumer that was made while a server was away, and whose leader dies before that server has caught up, is led by nobody
until the dead one is back, although two of three servers stand. To create it again is then answered with a description
that names no leader, and to delete it is done without an answer (measured, 2.15). What is lost by making it anew is how
far it had come, on which nothing relies.
"""

import logging
from typing import Final

from headrace.bus import subjects, topology
from headrace.bus.answers import ApiError
from headrace.bus.connection import Connection
from headrace.bus.limits import REQUEST_TIMEOUT_S
from headrace.bus.topology import Body
from headrace.errors import UnavailableError

logger = logging.getLogger(__name__)
ELECTING_S: Final = 20.0
"""How long a consumer may be led by nobody until it is made anew: an election takes up to 9 s, and may fail twice."""
DELETED_S: Final = 1.0
"""How long it is waited for the answer to the deletion of what nobody leads: none comes, though it is done."""


class Consumer:
    """One consumer of a stream."""

    def __init__(self, connection: Connection, stream: str, *, electing_s: float = ELECTING_S) -> None:
        self.stream = stream
        self._connection = connection
        self._electing_s = electing_s
        self._leaderless: float | None = None
        """Since when it is known that nobody leads it, in monotonic seconds."""

    async def stand(self, body: Body) -> bool:
        """Make it stand; True when it was made anew, so that no request stands at it any more.

        Raises UnavailableError, also while no server leads it, and ApiError.
        """
        try:
            led = await self._create(body)
        except UnavailableError:
            self.is_led()  # or nobody knows: the time that the cluster itself is away does not count
            raise
        if not led:
            self.is_not_led(body["name"])
            await delete(self._connection, self.stream, body["name"], led=False)
            await self._create(body)
        self.is_led()
        return not led

    def is_led(self) -> None:
        """Take note that a server leads it."""
        self._leaderless = None

    def is_not_led(self, name: str) -> None:
        """Take note that no server leads it; raises UnavailableError while one may still be elected."""
        now = self._connection.clock.monotonic()
        if self._leaderless is None:
            self._leaderless = now
        if now - self._leaderless < self._electing_s:
            message = f"no server leads consumer {name} of {self.stream} yet"
            raise UnavailableError(message)
        logger.warning("%s.%s: no server leads it since %.0f s: it is made anew", self.stream, name, self._electing_s)
        self._leaderless = now

    async def _create(self, body: Body) -> bool:
        """Create it, or find that it is there; False when nobody leads it."""
        subject = subjects.api("CONSUMER.CREATE", self.stream, body["name"])
        info = await self._connection.api(subject, {"stream_name": self.stream, "config": body})
        cluster = info.get("cluster")
        return not cluster or bool(cluster.get("leader"))


async def delete(connection: Connection, stream: str, name: str, *, led: bool) -> None:
    """Delete a consumer, if it stands; raises ApiError, and UnavailableError for one that a server leads."""
    timeout_s = REQUEST_TIMEOUT_S if led else DELETED_S
    try:
        await connection.api(subjects.api("CONSUMER.DELETE", stream, name), timeout_s=timeout_s)
    except UnavailableError as problem:
        if led:
            raise
        logger.info("%s.%s: %s", stream, name, problem)
    except ApiError as problem:
        if problem.code != topology.CONSUMER_NOT_FOUND:
            raise
