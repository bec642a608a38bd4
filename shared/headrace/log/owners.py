"""Who holds which partition, in memory: a part of the log's twin."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from headrace.errors import DatabaseVersionError
from headrace.log.chain import GENESIS, Link
from headrace.log.checks import NEWER
from headrace.log.port import Holdings, Recorded, Tenure
from headrace.log.shares import Member, claimable, share


class Partition(msgspec.Struct):
    """One partition as it stands."""

    log: str
    partition: int
    epoch: int = 0
    owner: str | None = None
    lease_until: int = 0
    format: int = 0
    events: list[Recorded] = []
    links: list[Link] = []

    @property
    def last(self) -> int:
        """Give the last position."""
        return len(self.events)

    @property
    def hash(self) -> bytes:
        """Give the chain's hash up to here."""
        return self.links[-1].hash if self.links else GENESIS


class MemoryOwners(ABC):
    """What `OwnerLog` says of partitions and their owners, in memory."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._parts = {(log, at): Partition(log, at) for log, count in partitions.items() for at in range(count)}
        self._of_log = {log: [part for (of, _), part in sorted(self._parts.items()) if of == log] for log in partitions}
        self._members: dict[tuple[str, str], Member] = {}
        self._ended: dict[str, Callable[[], None] | None] = {}
        self._gone: set[str] = set()

    @abstractmethod
    def _up(self) -> int:
        """Raise UnavailableError while the log is down, else give the time (ms)."""

    def end_session(self, owner: str) -> None:
        """Let the session end on which an owner beat last, as with its process: it is gone unless it beats again."""
        self._gone.add(owner)
        ended = self._ended.pop(owner, None)
        if ended is not None:
            ended()

    async def heartbeat(
        self, owner: str, formats: Mapping[str, int], *, lease_s: float, ended: Callable[[], None] | None = None
    ) -> Holdings:
        """Renew, and claim a fair share; as OwnerLog says. Sessions end by `end_session`."""
        now = self._up()
        self._gone.discard(owner)
        self._ended[owner] = ended
        self._end_gone(formats, now)
        until = now + int(lease_s * 1000)
        tenures: list[Tenure] = []
        surplus: list[tuple[str, int]] = []
        owners = 0
        for log, format in sorted(formats.items()):
            joined = self._members.get((log, owner))
            since = joined.since if joined and joined.lease_until > now else now
            self._members[log, owner] = Member(owner, format, since, until)
            members = [m for (of, _), m in self._members.items() if of == log and m.lease_until > now]
            owners = max(owners, len(members))
            parts = self._of_log[log]
            for part in parts:
                if part.owner == owner:
                    part.lease_until = until
            held = [part for part in parts if part.owner == owner]
            held_by_others = {part.partition: part.owner for part in parts if part.owner and part.lease_until > now}
            fair = share(owner, members, {part.partition: part.format for part in parts}, held_by_others)
            for part in parts:
                if len(held) < fair and claimable(part.owner, part.lease_until, part.format, now, format):
                    part.owner, part.epoch, part.lease_until = owner, part.epoch + 1, until
                    part.format = max(part.format, format)
                    held.append(part)
            held.sort(key=lambda part: part.partition)
            tenures += [Tenure(log, part.partition, part.epoch, part.last) for part in held]
            surplus += [(log, part.partition) for part in held[fair:]]
        return Holdings(tuple(tenures), now, owners, tuple(surplus))

    def _end_gone(self, logs: Iterable[str], now: int) -> None:
        """End the leases of those owners of logs whose sessions have ended."""
        for owner in [one for one in self._gone if any((log, one) in self._members for log in logs)]:
            for (log, name), member in self._members.items():
                if name == owner:
                    self._members[log, name] = msgspec.structs.replace(member, lease_until=min(member.lease_until, now))
            for part in self._parts.values():
                if part.owner == owner:
                    part.lease_until = min(part.lease_until, now)
            self._gone.discard(owner)

    async def release(self, owner: str, partitions: Sequence[tuple[str, int]]) -> None:
        """Give partitions back at once."""
        self._up()
        for where in partitions:
            part = self._parts.get(where)
            if part is not None and part.owner == owner:
                part.owner, part.lease_until = None, 0
        for log in {log for log, _ in partitions}:
            if not any(part.owner == owner for (of, _), part in self._parts.items() if of == log):
                self._members.pop((log, owner), None)

    async def seize(self, owner: str, log: str, partition: int, format: int, *, lease_s: float) -> Tenure:
        """Take a partition from whoever holds it, for a rebuild."""
        now, part = self._up(), self._parts[log, partition]
        if part.format > format:
            raise DatabaseVersionError(NEWER.format(partition=partition, log=log))
        part.epoch += part.owner != owner
        part.owner, part.lease_until = owner, now + int(lease_s * 1000)
        return Tenure(log, partition, part.epoch, part.last)

    async def partitions(self) -> list[dict[str, Any]]:
        """Read who holds which partition until when."""
        self._up()
        return [
            {
                "log": part.log,
                "partition": part.partition,
                "epoch": part.epoch,
                "owner": part.owner,
                "lease_until": part.lease_until,
                "format": part.format,
                "last_position": part.last,
                "hash": part.hash.hex(),
            }
            for _, part in sorted(self._parts.items())
        ]
