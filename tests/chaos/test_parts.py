"""The parts of the harness do what they say: else a round would prove nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace.testing.checker.history import Finding
from tests.chaos import either, ledger, schedule
from tests.chaos.proxy import POSTGRES_READY, Link, Way
from tests.chaos.round import Told, table

SOON_S = 0.2
WITHIN_S = 5.0


def test_a_seed_means_one_schedule_with_every_kind_in_it_that_can_be_written_down(tmp_path: Path) -> None:
    kinds = tuple(schedule.KINDS)
    faults = schedule.drawn(7, 150, kinds)
    assert faults == schedule.drawn(7, 150, kinds) != schedule.drawn(8, 150, kinds)
    assert {fault.kind for fault in faults} == set(kinds)
    schedule.save(faults, tmp_path / "schedule.jsonl")
    assert schedule.load(tmp_path / "schedule.jsonl") == faults


def test_a_round_whose_fault_never_fired_is_void_and_one_that_found_something_failed() -> None:
    assert Told(seed=1, storm_s=1).verdict == "passed"
    assert Told(seed=1, storm_s=1, missing=["nats wiped"]).verdict == "void"
    found = Told(seed=1, storm_s=1, missing=["nats wiped"], findings=[Finding("history", "a gap")])
    assert found.verdict == "failed"
    assert "FOUND history: a gap" in table(found)
    assert "NEVER FIRED nats wiped" in table(found)


def test_the_ledger_applies_an_effect_once_a_key_where_keys_are_known_also_after_a_restart(tmp_path: Path) -> None:
    def act(book: ledger.Ledger, *, by_key: bool) -> bool:
        told = {"tool": "note", "run_id": "run_1", "attempt_id": "att_1", "by_key": by_key}
        return bool(book.answer({"do": "act", "key": f"key of {by_key}", **told})["applied"])

    file = tmp_path / "ledger.jsonl"
    for first in (True, False):
        with ledger.Ledger(file) as book:
            assert act(book, by_key=True) is first
            assert act(book, by_key=False)
    assert [one.applied for one in ledger.read(file)] == [True, True, False, True]


def test_in_a_rolling_change_starts_take_turns_until_it_is_over(tmp_path: Path) -> None:
    def start(name: str) -> str:
        place = tmp_path / name
        version = either.chosen(place)
        with place.with_suffix(".versions").open("a") as told:
            told.write(version + "\n")
        return version

    firsts = [start("planner_1"), start("planner_2")]
    assert sorted(firsts) == sorted([either.OURS, either.OTHERS])
    assert [start("planner_1"), start("planner_2")] == firsts[::-1]
    assert {start("api"), start("api")} == set(firsts)
    (tmp_path / either.UPGRADED).touch()
    assert {start("planner_1"), start("planner_1"), start("api"), start("gatekeeper")} == {either.OURS}


class Echo:
    """A server that answers each message with `Z`, as a database that has committed does."""

    def __init__(self) -> None:
        self.heard = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1024):
                self.heard += chunk
                writer.write(b"C" + POSTGRES_READY)
                await writer.drain()
        except OSError:
            return
        finally:
            writer.close()


@asynccontextmanager
async def linked(echo: Echo) -> AsyncIterator[tuple[Link, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Give a connection to the echo through a link."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    link = Link("test", lambda: int(server.sockets[0].getsockname()[1]))
    async with asyncio.TaskGroup() as group:
        group.create_task(link.serve())
        await link.ready.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        try:
            yield link, reader, writer
        finally:
            writer.close()
            link.close()
            server.close()


async def asks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: bytes) -> bytes:
    """Ask the echo, and give its answer; empty when the connection ended."""
    writer.write(what)
    try:
        async with asyncio.timeout(WITHIN_S):
            return await reader.read(1024)
    except ConnectionError:
        return b""


async def test_an_answer_that_is_lost_was_given_by_a_server_that_had_done_what_it_was_asked() -> None:
    echo = Echo()
    async with linked(echo) as (link, reader, writer), asyncio.TaskGroup() as group:
        losing = group.create_task(link.lose_answer(WITHIN_S))
        await asyncio.sleep(0)
        assert await asks(reader, writer, b"select 1"), "only the answer to an append is lost"
        assert await asks(reader, writer, b"append run.queued") == b""
        assert await losing
    assert echo.heard == b"select 1append run.queued"


async def test_a_link_that_is_held_carries_nothing_and_everything_once_it_is_healed() -> None:
    echo = Echo()
    async with linked(echo) as (link, reader, writer):
        assert await asks(reader, writer, b"one")
        link.hold(Way.DOWN)
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1024), SOON_S)
        assert echo.heard == b"onetwo", "the other way is open"
        link.heal()
        assert await asyncio.wait_for(reader.read(1024), WITHIN_S)


async def test_a_link_that_is_cut_resets_its_connections_and_lets_nobody_in_until_it_is_healed() -> None:
    async with linked(Echo()) as (link, reader, writer):
        assert await asks(reader, writer, b"one")
        link.refuse()
        assert await asks(reader, writer, b"two") == b""
        again = await asyncio.open_connection("127.0.0.1", link.port)
        assert await asks(*again, b"three") == b""
        link.heal()
        anew = await asyncio.open_connection("127.0.0.1", link.port)
        assert await asks(*anew, b"four")
        for _, other in (again, anew):
            other.close()


async def test_a_link_resets_in_the_middle_of_what_it_carries() -> None:
    async with linked(Echo()) as (link, reader, writer):
        link.reset_after(8)
        assert await asks(reader, writer, b"one")
        assert await asks(reader, writer, b"two") == b""
        assert not link.resets_soon
