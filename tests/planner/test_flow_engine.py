"""Keys that runs share, over the whole engine in virtual time: lines, priority, room made, rates, owners that die."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

import headrace
from headrace import ids
from headrace.errors import UnavailableError, ValidationError
from headrace.host.answers import Answers
from headrace.host.cadence import QUICK
from headrace.host.deciding import Deciding
from headrace.host.draft import Draft
from headrace.host.items import Item, Origin, advance
from headrace.host.library import CachedLibrary
from headrace.host.loading import States
from headrace.host.tenure import Held
from headrace.log.memory import MemoryLog
from headrace.log.port import Batch, Tenure
from headrace.log.rebuild import rebuild
from headrace.ports.tool import ToolContext
from headrace.steering import RequestPermit
from headrace.testing.engine import SLOTS, Engine
from headrace.testing.views import Run
from headrace.testing.virtual import VirtualClock, in_virtual_time
from headrace.vocabulary import KEY_RESTS_S, LOG_FLOW, LOG_PARTITIONS
from headrace_planner.flow.bounds import Bounds
from headrace_planner.flow.room import FlowRoom
from tests.tour.kit import workflow


def job(name: str = "deploy", tool: str = "work", **spec: Any) -> dict[str, Any]:
    inputs = {"env": {"type": "string", "default": "prod"}, "label": {"type": "string", "default": ""}}
    step = {"id": "act", "tool": tool, "with": {"label": "{{ inputs.label }}"}}
    return workflow(name, step, inputs=inputs, **{"concurrency": {"key": "{{ inputs.env }}"}, **spec})


class Works:
    """A tool that takes ten seconds, and what it has done."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.at: list[float] = []

        @headrace.tool(pool="works")
        async def work(label: str, context: ToolContext) -> dict[str, str]:
            """Work for ten seconds."""
            self.began.append(label)
            self.at.append(asyncio.get_running_loop().time())
            await asyncio.sleep(10)
            self.ended.append(label)
            return {"label": label}

        @headrace.tool(pool="works", rate_limit="10/1m")
        async def look(label: str, context: ToolContext) -> dict[str, str]:
            """Look something up where only so many questions are answered in a minute."""
            self.began.append(label)
            self.at.append(asyncio.get_running_loop().time())
            return {"label": label}

        @headrace.tool(pool="works", rate_limit="500/1s")
        async def glance(label: str) -> dict[str, str]:
            """Look something up where many questions are answered."""
            return {"label": label}

        self.tools = [work, look, glance]


async def flow(engine: Engine, key: str, kind: str = "concurrency") -> dict[str, Any]:
    (row,) = await engine.log.rows("flows", {"key": key, "kind": kind, "busy": (False, True)})
    return row


@in_virtual_time
async def test_row_60_over_the_limit_the_second_run_is_queued_and_runs_after_the_first() -> None:
    works = Works()
    async with Engine(tools=works.tools) as engine:
        document = job(triggers=[{"type": "event", "event": "push", "inputs": {"label": "{{ event.label }}"}}])
        await engine.apply(document)
        (first,) = await engine.trigger("push", {"label": "one"})
        (second,) = await engine.trigger("push", {"label": "two"})
        await first.until("running")
        await asyncio.sleep(3)
        row = await engine.log.row("runs", {"id": second.id})
        assert row is not None
        assert row["status"] == "queued"
        (wait,) = row["detail"]["waiting"]
        assert wait["for"] == "concurrency"
        assert first.id in wait["message"]
        known = await flow(engine, "prod")
        assert (known["held"], known["queued"]) == (1, 1)
        assert known["detail"]["holders"][0]["run_id"] == first.id
        await second.until("succeeded")
        assert works.began == ["one", "two"]
        await asyncio.sleep(1)
        assert (await flow(engine, "prod"))["held"] == 0
    assert works.ended == ["one", "two"]


@in_virtual_time
async def test_other_keys_do_not_wait_and_one_key_serves_by_priority_then_in_order() -> None:
    works = Works()
    async with Engine(tools=works.tools) as engine:
        await engine.apply(job())
        await engine.apply(job("urgent", priority=50))
        runs = [await engine.run("deploy", {"label": "first"})]
        await runs[0].until("running")
        runs += [await engine.run("deploy", {"label": f"{number}"}) for number in range(3)]
        runs.append(await engine.run("urgent", {"label": "urgent"}))
        elsewhere = await engine.run("deploy", {"label": "elsewhere", "env": "test"})
        await elsewhere.until("succeeded")
        assert works.began[:2] == ["first", "elsewhere"]
        for run in runs:
            await run.until("succeeded")
    assert [label for label in works.began if label != "elsewhere"] == ["first", "urgent", "0", "1", "2"]


@in_virtual_time
async def test_a_limit_of_two_lets_two_run_at_a_time() -> None:
    works = Works()
    async with Engine(tools=works.tools) as engine:
        await engine.apply(job(concurrency={"key": "{{ inputs.env }}", "limit": 2}))
        runs = [await engine.run("deploy", {"label": f"{number}"}) for number in range(4)]
        await runs[1].until("succeeded")
        assert len(works.began) <= 3
        for run in runs:
            await run.until("succeeded")
    assert works.began[:2] == ["0", "1"]


@in_virtual_time
async def test_on_conflict_reject_fails_the_second_at_once_and_names_the_first() -> None:
    works = Works()
    async with Engine(tools=works.tools) as engine:
        await engine.apply(job(concurrency={"key": "{{ inputs.env }}", "on_conflict": "reject"}))
        first = await engine.run("deploy", {"label": "first"})
        await first.until("running")
        second = await engine.run("deploy", {"label": "second"})
        await second.until("failed")
        row = await engine.log.row("runs", {"id": second.id})
        assert row is not None
        assert row["error_type"] == "concurrency_limit"
        assert first.id in row["error_message"]
        await first.until("succeeded")
        await (await engine.run("deploy", {"label": "third"})).until("succeeded")
    assert works.began == ["first", "third"]


@in_virtual_time
async def test_on_conflict_replace_cancels_the_holder_and_those_in_line_and_the_newest_runs() -> None:
    works = Works()
    async with Engine(tools=works.tools) as engine:
        await engine.apply(job(concurrency={"key": "{{ inputs.env }}", "on_conflict": "replace"}))
        runs: list[Run] = []
        for number in range(3):
            runs.append(await engine.run("deploy", {"label": f"{number}"}))
            await asyncio.sleep(1)
        await runs[2].until("succeeded")
        for run, by in ((runs[0], runs[1]), (runs[1], runs[2])):
            await run.until("cancelled")
            row = await engine.log.row("runs", {"id": run.id})
            assert row is not None
            assert f"replaced by run {by.id}" in row["error_message"]
    assert works.ended == ["2"]


@in_virtual_time
async def test_a_cancelled_holder_gives_its_key_to_the_next() -> None:
    works = Works()
    async with Engine(tools=works.tools) as engine:
        await engine.apply(job())
        first = await engine.run("deploy", {"label": "first"})
        await first.until("running")
        waiting = await engine.run("deploy", {"label": "waiting"})
        last = await engine.run("deploy", {"label": "last"})
        await engine.cancel(waiting)
        await waiting.until("cancelled")
        await engine.cancel(first)
        await last.until("succeeded")
    assert works.began == ["first", "last"]


@in_virtual_time
async def test_keys_survive_the_death_of_their_owner() -> None:
    works = Works()
    async with Engine(tools=works.tools) as engine:
        await engine.apply(job())
        runs = [await engine.run("deploy", {"label": f"{number}"}) for number in range(4)]
        for run in runs[:3]:
            await run.until("running")
            await engine.kill_planner()
            await run.until("succeeded")
        await runs[3].until("succeeded")
        await asyncio.sleep(1)
        assert (await flow(engine, "prod"))["held"] == 0
    assert works.began == ["0", "1", "2", "3"]


@in_virtual_time
async def test_a_map_under_a_rate_limit_begins_no_more_than_that_in_any_minute_and_waits_meanwhile() -> None:
    works = Works()
    async with Engine(tools=works.tools) as engine:
        step = {"id": "each", "map": "{{ inputs.names }}", "tool": "look", "with": {"label": "{{ item }}"}}
        document = workflow("looking", step, inputs={"names": {"type": "array"}})
        run = await engine.run(document, {"names": [f"{number}" for number in range(35)]})
        await run.until("waiting")
        await asyncio.sleep(1)
        row = await engine.log.row("runs", {"id": run.id})
        assert row is not None
        assert (row["waiting_for"], len(works.began)) == ("rate_limit", 10)
        (wait,) = row["detail"]["waiting"]
        assert wait["until"] is not None
        assert "rate limit of look (10 in 60 s)" in wait["message"]
        await run.until("succeeded", seconds=600)
    assert works.began == [f"{number}" for number in range(35)]
    for first, eleventh in zip(works.at, works.at[10:], strict=False):
        assert eleventh - first >= 59.9


@in_virtual_time
async def test_two_runs_share_a_rate_limit_in_the_order_of_asking() -> None:
    works = Works()
    async with Engine(tools=works.tools) as engine:
        step = {"id": "each", "map": "{{ inputs.names }}", "tool": "look", "with": {"label": "{{ item }}"}}
        document = workflow("looking", step, inputs={"names": {"type": "array"}})
        long = await engine.run(document, {"names": [f"long{number}" for number in range(40)]})
        await long.until("waiting")
        short = await engine.run(document, {"names": ["short"]})
        await short.until("succeeded", seconds=600)
        assert works.began.index("short") <= 20
        await long.until("succeeded", seconds=600)


@in_virtual_time
async def test_a_long_map_asks_its_rate_limit_for_many_attempts_at_a_time() -> None:
    works = Works()
    async with Engine(tools=works.tools) as engine:
        step = {"id": "each", "map": "{{ inputs.names }}", "tool": "glance", "with": {"label": "{{ item }}"}}
        document = workflow("glancing", step, inputs={"names": {"type": "array"}})
        began = asyncio.get_running_loop().time()
        run = await engine.run(document, {"names": [f"{number}" for number in range(640)]})
        await run.until("succeeded")
        assert 1.0 <= asyncio.get_running_loop().time() - began < 3.0
        asked = 0
        for partition in range(LOG_PARTITIONS[LOG_FLOW]):
            events = await engine.log.read(LOG_FLOW, partition, 0, 10_000)
            asked += sum(event.type == "flow.asked" for event in events)
    assert 10 <= asked <= 40


@in_virtual_time
async def test_a_connections_rate_limit_is_checked_when_it_is_saved() -> None:
    async with Engine() as engine:
        with pytest.raises(ValidationError, match="such as 100/1m"):
            await engine.connect("github", {"rate_limit": "often"}, {"token": "env:GITHUB_TOKEN"})
        await engine.connect("github", {"rate_limit": "30/1m"}, {"token": "env:GITHUB_TOKEN"})


async def streams(engine: Engine) -> dict[str, list[str]]:
    """Give the events of every stream of the log flow, by name."""
    found: dict[str, list[str]] = {}
    for partition in range(LOG_PARTITIONS[LOG_FLOW]):
        for event in await engine.log.read(LOG_FLOW, partition, 0, 10_000):
            found.setdefault(event.stream_id, []).append(event.type.removeprefix("flow."))
    return found


@in_virtual_time
async def test_a_key_comes_to_rest_after_its_last_use_and_the_next_use_is_a_new_stream() -> None:
    works = Works()
    async with Engine(tools=works.tools) as engine:
        await engine.apply(job())
        for label in ("first", "second"):
            run = await engine.run("deploy", {"label": label})
            await run.until("succeeded")
            await engine.pass_time(KEY_RESTS_S + 120)
        found = await streams(engine)
        assert [names[-1] for names in found.values()] == ["ended", "ended"]
        assert len({ids.address(stream) for stream in found}) == 1
        assert await engine.log.rows("flows", {"busy": (False, True)}) == []
        assert (await rebuild(engine.log)).changed == 0


@in_virtual_time
async def test_a_key_in_use_goes_on_in_new_streams_and_nobody_gets_it_meanwhile_whoever_owns_it() -> None:
    works = Works()
    async with Engine(tools=works.tools) as engine:
        for held in engine.processes.planners()[0].host.tenures:
            if held.log == LOG_FLOW:
                held.room.bounds = Bounds(moves_s=60)
        await engine.apply(job())
        holder = await engine.run(workflow("long", {"id": "nap", "wait": "5m"}, concurrency={"key": "prod"}))
        waits = await engine.run("deploy", {"label": "second"})
        await engine.pass_time(200)
        found = [found for _, found in sorted((await streams(engine)).items())]
        assert len(found) >= 3
        assert [names[-1] for names in found[:-1]] == ["ended"] * (len(found) - 1)
        assert [names[0] for names in found] == ["asked", *["continued"] * (len(found) - 1)]
        await engine.kill_planner()
        await engine.pass_time(60)
        known = await flow(engine, "prod")
        assert (known["held"], known["queued"], works.began) == (1, 1, [])
        await engine.pass_time(60)
        await holder.until("succeeded")
        await waits.until("succeeded", seconds=120)
        assert len(await streams(engine)) == len(found)
        assert (await rebuild(engine.log)).changed == 0


@in_virtual_time
async def test_a_key_that_is_old_as_a_new_owner_meets_it_goes_on_with_its_holder() -> None:
    """Else the next to ask would find a new stream that knows of no holder (seed 100015)."""
    clock = VirtualClock()
    log = MemoryLog(clock)
    room = FlowRoom()
    room.bounds = Bounds(moves_s=60)
    key = ids.flow_key("default", "concurrency", "deploy")
    held = Held.begin(Tenure(LOG_FLOW, ids.partition_of(key), 1, 0), 600.0, room, None)
    deciding = Deciding(clock, States(log, CachedLibrary()), Answers(log, clock, QUICK), lambda _: False)
    ask = RequestPermit(permit_id="p1", run_id="run_1", kind="concurrency", key="deploy", limit=1)
    await deciding.decide(Draft(1), [Item(held, Origin.INBOX, key, ask, workspace="default")])
    await asyncio.sleep(100)
    held.unproven.add(key)
    draft = Draft(2)
    await deciding.decide(draft, [advance(held, key, restart=True)])
    assert [event.type for event in draft.part(held).events] == ["flow.ended", "flow.continued"]


@in_virtual_time
async def test_a_key_whose_release_was_never_sent_goes_to_the_next_because_it_asks() -> None:
    works = Works()
    async with Engine(tools=works.tools) as engine:
        await engine.apply(job())
        first = await engine.run("deploy", {"label": "first"})
        await first.until("running")
        second = await engine.run("deploy", {"label": "second"})
        lost: list[str] = []

        async def unanswered(batches: Sequence[Batch]) -> None:
            """Let the owner never learn that the end of the first run was committed, so that nothing of it leaves."""
            ended = any(event.type == "run.succeeded" for batch in batches for event in batch.events)
            if ended and not lost:
                lost.append("release")
                message = "the answer of the append is lost"
                raise UnavailableError(message)

        engine.log.after_commit = unanswered
        await first.until("succeeded")
        assert lost
        await second.until("succeeded", seconds=120)
    assert works.began == ["first", "second"]


@in_virtual_time
async def test_a_run_that_stands_in_its_workers_queue_keeps_its_time_row_17() -> None:
    works = Works()
    spec = workflow("patient", {"id": "one", "tool": "work", "with": {"label": "l"}}, timeout="15s")
    async with Engine(tools=works.tools) as engine:
        await engine.apply(spec)
        late = [await engine.run("patient") for _ in range(3 * SLOTS)]  # the last wait for 20 s before they begin
        for run in late:
            await run.until("succeeded")
        assert "run.clock_moved" in {event.type_name() for event in await engine.events(late[-1])}
        slow = workflow("slow", {"id": "one", "tool": "work", "with": {"label": "l"}}, timeout="7s")
        await engine.apply(slow)
        run = await engine.run("slow")
        await run.until("failed")
    assert "run timed out after 7 s" in str(run.error_message)
