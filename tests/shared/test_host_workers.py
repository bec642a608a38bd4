"""What owners do about workers: honest ones are left alone, dead ones lost, rescued ones given up, deaf ones told again."""

import asyncio
from pathlib import Path

import msgspec

from headrace import codec
from headrace.bus.memory import MemoryBus
from headrace.bus.memory_broker import ARRIVES, LOST, Fate
from headrace.config import Config
from headrace.events.base import Actor
from headrace.keys import COMMANDS
from headrace.messages import Answer, Command
from headrace.ports.tool import ToolContext
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time
from headrace.vocabulary import PRESENCE_LOST_S, RESCUE_SILENT_S
from headrace.wire import AskWorker, DrainWorker, RescueWorker, WorkerCommand
from headrace.worker.decorator import tool
from headrace.worker.registry import Registry
from headrace.worker.service import make_worker
from headrace.worker.twins import MemoryBlobs
from tests.shared.host_toy import KEYS, Add, Worker, World, on_virtual_time, until

TEN_MINUTES_S = 600.0
ADA = Actor(id="tok_ada", name="ada", roles=("operator",))
EVE = Actor(id="tok_eve", name="eve", roles=("viewer",))

SLOW = """\
apiVersion: headrace/v1
kind: Workflow
metadata: {name: slow}
spec:
  steps:
    - {id: wait, tool: honest, timeout: 20m}
"""


@tool(pool="slow")
async def honest(context: ToolContext) -> dict[str, str]:
    """Take ten minutes, and say so."""
    context.progress(0.0, "this takes a while")
    await asyncio.sleep(TEN_MINUTES_S)
    return {"said": "done"}


@in_virtual_time
async def test_a_step_that_takes_ten_minutes_on_a_living_worker_is_left_alone() -> None:
    async with Engine(tools=[honest]) as engine:
        run = await engine.run(SLOW)
        began = engine.clock.monotonic()
        await engine.wait(run, "succeeded", seconds=2 * TEN_MINUTES_S)
        assert engine.clock.monotonic() - began >= TEN_MINUTES_S
        assert not [event for event in await engine.events(run) if event.type_name() == "attempt.failed"]
        assert run.step("wait").attempt == 1


@in_virtual_time
async def test_the_work_of_a_dead_worker_is_taken_up_after_proven_silence_and_not_before(tmp_path: Path) -> None:
    began: list[str] = []

    @tool(pool="slow")
    async def doomed() -> dict[str, str]:
        """Hang on the first worker alone."""
        began.append("again")
        if len(began) == 1:
            await asyncio.Event().wait()
        return {"said": "done"}

    async with Engine(tools=[doomed]) as engine, asyncio.TaskGroup() as group:
        run = await engine.run(SLOW.replace("honest", "doomed"))
        await until(lambda: len(began) == 1)
        bus = MemoryBus(engine.clock, engine.broker)
        other = make_worker(
            service="other",
            bus=bus,
            clock=engine.clock,
            config=Config(file_root=tmp_path, keys=engine.keys, slots=1),
            registry=Registry([doomed]),
            blobs=MemoryBlobs(),
        )
        task = group.create_task(other.run())
        await asyncio.sleep(5)
        for credit in next(work for name, work in engine.broker.works.items() if name.endswith(".slow")).workers:
            if credit.bus is not bus:
                credit.bus.disconnect()  # type: ignore[attr-defined]  # the twin's own
        await asyncio.sleep(PRESENCE_LOST_S - 3)
        assert len(began) == 1
        await engine.wait(run, "succeeded")
        assert len(began) == 2
        lost = [event for event in await engine.events(run) if event.type_name() == "attempt.failed"]
        assert [msgspec.to_builtins(event)["status"] for event in lost] == ["lost"]
        task.cancel()
    await bus.close()


async def _ask(world: World, command: WorkerCommand, actor: Actor = ADA) -> Answer:
    body = Command(body=codec.raw(command), actor=actor, workspace="default")
    data = KEYS.pack(COMMANDS, codec.encode(body))
    return msgspec.json.decode(await world.bus.command("runs", 0, data, timeout_s=5), type=Answer)


@on_virtual_time
async def test_a_silent_worker_is_rescued_before_it_is_lost_by_itself() -> None:
    async with World(partitions=1) as world:
        await world.host()
        worker = await Worker(world).begin()
        stream = world.stream(0)
        await world.ask(Add(orders=2), stream=stream)
        await until(lambda: len(worker.orders) == 2)
        await asyncio.sleep(3)
        refused = await _ask(world, RescueWorker(worker=worker.name))
        assert refused.status == 409, refused
        assert refused.error is not None
        assert "lives" in refused.error.message
        worker.silent = True
        await asyncio.sleep(RESCUE_SILENT_S)
        assert len(await world.log.stream("runs", stream)) == 1
        answer = await _ask(world, RescueWorker(worker=worker.name))
        assert codec.loads(answer.body) == {"worker": worker.name, "lost": 2}
        await until(lambda: _count(world, stream, 3))
        again = await _ask(world, RescueWorker(worker=worker.name))
        assert codec.loads(again.body)["lost"] == 0


@on_virtual_time
async def test_only_operators_act_on_workers_whatever_the_api_lets_through() -> None:
    async with World(partitions=1) as world:
        await world.host()
        worker = await Worker(world).begin()
        await asyncio.sleep(3)
        command: WorkerCommand
        for command in (
            RescueWorker(worker=worker.name, forced=True),
            DrainWorker(worker=worker.name),
            AskWorker(worker=worker.name, nonce="n"),
        ):
            assert (await _ask(world, command, EVE)).status == 403
        assert not [told for told in worker.controls if told["type"] == "drain"]
        assert (await _ask(world, DrainWorker(worker=worker.name))).status == 200
        await until(lambda: any(told["type"] == "drain" for told in worker.controls))
        assert (await _ask(world, DrainWorker(worker="wrk_nobody"))).status == 404


@on_virtual_time
async def test_an_interrupt_that_was_lost_is_sent_again_while_the_attempt_is_held() -> None:
    async with World(partitions=1) as world:
        await world.host()
        worker = await Worker(world).begin()
        stream = world.stream(0)
        await world.ask(Add(orders=1), stream=stream)
        await until(lambda: len(worker.orders) == 1)
        attempt_id = worker.orders[0].attempt_id
        lost: list[bytes] = []

        def fate(subject: str, data: bytes) -> Fate:
            if subject.endswith(".control") and b'"interrupt"' in data and not lost:
                lost.append(data)
                return LOST
            return ARRIVES

        world.broker.fate = fate
        await world.ask(Add(stop=attempt_id), stream=stream)
        await until(lambda: bool(lost))
        assert not _told(worker, attempt_id)
        await until(lambda: _told(worker, attempt_id) > 0)
        worker.holding.clear()
        await asyncio.sleep(3)
        heard = _told(worker, attempt_id)
        await asyncio.sleep(60)
        assert _told(worker, attempt_id) == heard


@on_virtual_time
async def test_a_worker_that_leaves_takes_what_it_still_held_with_it_at_once() -> None:
    async with World(partitions=1) as world:
        host = await world.host()
        worker = await Worker(world).begin()
        stream = world.stream(0)
        await world.ask(Add(orders=1), stream=stream)
        await until(lambda: len(worker.orders) == 1)
        await asyncio.sleep(3)
        worker.silent = True
        host.presence.heard(msgspec.structs.replace(next(seen.beat for seen in host.presence.workers()), leaving=True))
        assert host.presence.pools() == {}
        await asyncio.sleep(2)
        assert await _count(world, stream, 2)


def _told(worker: Worker, attempt_id: str) -> int:
    return sum(told["type"] == "interrupt" and told["attempt_id"] == attempt_id for told in worker.controls)


async def _count(world: World, stream: str, count: int) -> bool:
    return len(await world.log.stream("runs", stream)) >= count
