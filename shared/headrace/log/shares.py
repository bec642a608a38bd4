"""Who should hold how many partitions of a log (pure). The SQL of the heartbeat says the same; one suite holds both.

Owners share evenly, those that joined first get one more where it does not come out even. Where code of several
formats is about, partitions are shared among the owners that understand what the newest wrote; older ones keep what
they hold and claim nothing, unless they are alone.
"""

from collections.abc import Mapping, Sequence

import msgspec


class Member(msgspec.Struct, frozen=True):
    """A living owner of a log: the newest format it understands, since when it is there, until when its lease is."""

    owner: str
    format: int
    since: int
    lease_until: int


def share(owner: str, members: Sequence[Member], formats: Mapping[int, int], holders: Mapping[int, str]) -> int:
    """Tell how many partitions `owner` should hold; `formats` and `holders` (living ones) are by partition."""
    newest = max(formats.values(), default=0)
    able = [member for member in members if member.format >= newest] or list(members)
    able.sort(key=lambda member: (member.since, member.owner))
    names = [member.owner for member in able]
    if owner not in names:
        return sum(1 for holder in holders.values() if holder == owner)
    mine = next(member.format for member in able if member.owner == owner)
    living = {member.owner for member in members}
    pool = sum(
        1
        for partition, format in formats.items()
        if format <= mine and (holders.get(partition) in names or holders.get(partition) not in living)
    )
    fair, rest = divmod(pool, len(names))
    return fair + (names.index(owner) < rest)


def claimable(owner: str | None, lease_until: int, held_format: int, now: int, format: int) -> bool:
    """Tell whether a partition may be claimed by code of a format: nobody holds it, or its lease is over."""
    return (owner is None or lease_until <= now) and held_format <= format
