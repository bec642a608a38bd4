"""The checker hashes a partition's chain anew: whatever was changed in it afterwards, it says so."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from headrace.log.chain import GENESIS, Link, link
from headrace.log.port import Recorded
from headrace.testing.checker.check import check
from headrace.testing.checker.history import History
from headrace.testing.views import at_once
from tests.simulation.checker_kit import NOW, RUN


def event(position: int, kind: str, **data: Any) -> Recorded:
    body = msgspec.json.encode({"type": kind, "plan_digest": "", **data})
    return Recorded("runs", 0, position, RUN, position, kind, 1, "default", NOW, body, b"{}")


def linked(previous: bytes, after: int, events: list[Recorded]) -> Link:
    return link(previous, after, events)  # type: ignore[arg-type]  # what is on record is hashed as what is new


class Partition:
    """One partition of two appends, and the row of its run, as a log gives them."""

    def __init__(self) -> None:
        self.events = [event(1, "run.queued"), event(2, "run.started"), event(3, "run.failed")]
        first = linked(GENESIS, 0, self.events[:2])
        self.kept = [first, linked(first.hash, 2, self.events[2:])]
        self.about = {"log": "runs", "partition": 0, "last_position": 3, "hash": self.kept[-1].hash.hex()}

    async def partitions(self) -> list[dict[str, Any]]:
        return [self.about]

    async def read(self, log: str, partition: int, after: int, limit: int) -> list[Recorded]:
        return [one for one in self.events if one.position > after][:limit]

    async def links(self, log: str, partition: int, after: int, limit: int) -> list[Link]:
        return [one for one in self.kept if one.first > after][:limit]

    async def get_blobs(self, digests: list[str]) -> dict[str, bytes]:
        return {}

    async def row(self, table: str, key: Mapping[str, Any]) -> dict[str, Any]:
        return {"id": RUN, "version": len(self.events), "status": "failed"}

    async def rows(self, table: str, where: Mapping[str, Any], **how: Any) -> list[dict[str, Any]]:
        return []

    def change(self, place: int, **changes: Any) -> None:
        self.kept[place] = msgspec.structs.replace(self.kept[place], **changes)


def said(part: Partition) -> list[str]:
    return [str(finding) for finding in at_once(check(part, History(), now_ms=NOW))]


def test_of_a_sound_chain_nothing_is_said() -> None:
    assert said(Partition()) == []


def an_event_was_changed(part: Partition) -> None:
    part.events[1] = msgspec.structs.replace(part.events[1], meta=b'{"by":"somebody"}')


def an_event_was_changed_with_its_leaf(part: Partition) -> None:
    an_event_was_changed(part)
    part.change(0, leaves=linked(GENESIS, 0, part.events[:2]).leaves)


def a_whole_append_was_changed(part: Partition) -> None:
    an_event_was_changed(part)
    part.kept[0] = linked(GENESIS, 0, part.events[:2])


def everything_behind_was_changed_too(part: Partition) -> None:
    a_whole_append_was_changed(part)
    part.kept[1] = linked(part.kept[0].hash, 2, part.events[2:])


def a_link_begins_elsewhere(part: Partition) -> None:
    part.change(1, first=4)


def the_last_link_is_gone(part: Partition) -> None:
    part.kept.pop()


def the_last_append_is_gone(part: Partition) -> None:
    part.kept.pop()
    part.events.pop()


def the_row_counts_less(part: Partition) -> None:
    part.about["last_position"] = 2


@pytest.mark.parametrize(
    ("doctor", "says"),
    [
        (an_event_was_changed, "the chain breaks at 1"),
        (an_event_was_changed_with_its_leaf, "the link up to 2 does not follow"),
        (a_whole_append_was_changed, "the link up to 3 does not follow"),
        (everything_behind_was_changed_too, "the chain ends at 3, the partition at 3"),
        (a_link_begins_elsewhere, "the chain breaks at 3"),
        (the_last_link_is_gone, "the chain ends at 2, the partition at 3"),
        (the_last_append_is_gone, "positions are not 1 to 3"),
        (the_row_counts_less, "positions are not 1 to 2"),
    ],
)
def test_whatever_was_changed_afterwards_is_said(doctor: Any, says: str) -> None:
    part = Partition()
    doctor(part)
    found = said(part)
    assert any(f"runs/0: {says}" in one for one in found), found
