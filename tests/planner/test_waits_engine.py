"""Waits on the whole engine: signals, triggers' events, and other runs' ends, also when a planner dies."""

import asyncio
from typing import Any

import pytest

from headrace import codec
from headrace.errors import NotFoundError, StepError, ValidationError
from headrace.log.memory import MemoryLog
from headrace.log.rebuild import rebuild
from headrace.steering import SignalRun
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time
from headrace.vocabulary import LOG_RUNS
from tests.tour.kit import workflow


def waiting(wait: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return workflow("waits", {"id": "w", "wait": wait}, outputs="{{ steps.w.output.data }}", **spec)


def signal(name: str, data: Any = None, identity: str = "one") -> SignalRun:
    return SignalRun(name=name, signal_id=identity, data=codec.raw(data))


@in_virtual_time
async def test_a_signal_ends_a_wait_and_outlives_a_planner() -> None:
    async with Engine() as engine:
        run = await engine.run(waiting({"signal": "go.on"}))
        await run.until("waiting")
        await engine.kill_planner()
        await engine.ask(LOG_RUNS, signal("go.on", {"n": 1}), stream=run.id)
        assert await run.result() == {"n": 1}
        with pytest.raises(ValidationError, match=r"it waits for: go\.on"):
            await engine.ask(
                LOG_RUNS, signal("gone", identity="two"), stream=(await engine.run(waiting({"signal": "go.on"}))).id
            )


@in_virtual_time
async def test_a_wait_that_nobody_ends_is_over_after_its_time() -> None:
    async with Engine() as engine:
        run = await engine.run(waiting({"signal": "go", "timeout": "2h"}))
        await run.until("waiting")
        await engine.pass_time("2h")
        with pytest.raises(StepError, match=r"7200 s for the signal 'go'"):
            await run.result()


@in_virtual_time
async def test_an_event_ends_every_wait_it_is_meant_for_and_no_other() -> None:
    async with Engine() as engine:
        document = waiting(
            {"event": "deploy.done", "when": "event.env == inputs.env"}, inputs={"env": {"type": "string"}}
        )
        live = [await engine.run(document, {"env": "live"}) for _ in range(3)]
        test = await engine.run(document, {"env": "test"})
        for run in (*live, test):
            await run.until("waiting")
        await engine.trigger("deploy.done", {"env": "live", "n": 7})
        for run in live:
            assert await run.result() == {"env": "live", "n": 7}
        assert (test.status, test.waiting_for) == ("waiting", "event")


@in_virtual_time
async def test_an_event_that_is_published_while_a_wait_is_being_committed_ends_it() -> None:
    """The step before the wait ends, and the event is published before what follows is committed."""
    async with Engine() as engine:
        first = {"id": "first", "wait": "10s"}
        then = {"id": "w", "wait": {"event": "fast"}, "depends_on": ["first"]}
        run = await engine.run(workflow("race", first, then, outputs="{{ steps.w.output.data }}"))
        await run.until("waiting")
        gate, committed = _hold_commit(engine.log, "wait.started")
        await asyncio.sleep(10)
        async with asyncio.timeout(60):
            await committed.wait()
        assert "wait.started" not in run.events
        await engine.bus.publish_trigger("fast", b'{"n": 1}', message_id="m-1")
        await asyncio.sleep(1)
        gate.set()
        assert await run.result() == {"n": 1}


def _hold_commit(log: MemoryLog, kind: str) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold the append that brings an event of a kind; gives what lets it go, and what tells that it is held."""
    gate, held, append = asyncio.Event(), asyncio.Event(), log.append_events

    async def slow(batches: Any) -> Any:
        if not gate.is_set() and any(event.type == kind for batch in batches for event in batch.events):
            held.set()
            await gate.wait()
        return await append(batches)

    log.append_events = slow  # type: ignore[method-assign]  # a slow database
    return gate, held


@in_virtual_time
async def test_a_run_waits_for_another_and_goes_on_with_its_outputs() -> None:
    async with Engine(planners=2) as engine:
        first = await engine.run(workflow("first", {"id": "nap", "wait": "1m"}, outputs={"n": 5}))
        document = workflow(
            "second", {"id": "w", "wait": {"run": "{{ inputs.run }}"}}, inputs={"run": {"type": "string"}},
            outputs="{{ steps.w.output.data.outputs.n }}",
        )  # fmt: skip
        second = await engine.run(document, {"run": first.id})
        await second.until("waiting")
        await engine.kill_planner()
        await engine.pass_time("2m")
        assert await second.result() == 5
        third = await engine.run(document, {"run": first.id})
        assert await third.result() == 5
        unknown = await engine.run(document, {"run": first.id[:-6] + "000000"})
        with pytest.raises(NotFoundError, match="there is no such run"):
            await unknown.result()


@in_virtual_time
async def test_rows_of_children_and_waits_are_rebuilt_as_they_were() -> None:
    async with Engine() as engine:
        await engine.apply(waiting({"event": "never"}))
        run = await engine.run(workflow("top", {"id": "s", "sub_workflow": "waits"}))
        await run.until("waiting")
        await engine.pass_time("5s")
        assert await engine.log.count("children", {"parent_id": run.id}) == 1
        assert await engine.log.count("waits", {"name": "never", "open": True}) == 1
        await engine.processes.close()
        assert (await rebuild(engine.log)).changed == 0
