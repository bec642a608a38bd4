"""The worker loop over a memory bus: orders, forgeries, writes, interrupts, presence, draining."""

import asyncio
import threading
from pathlib import Path

import msgspec
import pytest

from headrace import codec, telemetry
from headrace.bus.memory import MemoryBus
from headrace.clock import SystemClock
from headrace.codec import Raw, encode
from headrace.config import Config
from headrace.errors import ForbiddenError
from headrace.keys import POOL, Keys
from headrace.ports.tool import ToolContext
from headrace.wire import BeatNow, Drain, Interrupt, Probe
from headrace.worker.decorator import tool
from headrace.worker.processes import run_process
from headrace.worker.registry import Registry
from headrace.worker.service import make_worker
from headrace.worker.twins import MemoryBlobs
from tests.shared.worker_kit import KEYS, Owner, until, working

calls: list[str] = []
gate = threading.Event()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    calls.clear()
    gate.clear()


@tool(pool="test")
def note(text: str, context: ToolContext) -> dict[str, str]:
    """Note that it was called."""
    context.log(f"noted {text}")
    calls.append(text)
    return {"text": text}


@tool(pool="test", effect="write", idempotent=False)
def change(text: str) -> dict[str, str]:
    """Change the world."""
    calls.append(text)
    return {"text": text}


@tool(pool="test")
async def hang(context: ToolContext) -> dict[str, str]:
    """Never end by itself."""
    calls.append(context.attempt_id)
    await asyncio.Event().wait()
    return {}


@tool(pool="test")
def hang_in_thread(context: ToolContext) -> dict[str, str]:
    """Never end by itself, in a thread."""
    calls.append(context.attempt_id)
    gate.wait(30)
    return {}


@tool(pool="test")
async def children(context: ToolContext) -> dict[str, int]:
    """Start a program that starts another, both far too long."""
    ended = await run_process(context, ["/bin/sh", "-c", "sleep 1000 & echo $!; wait"], cwd=context.root)
    return {"exit_code": ended.exit_code}


@tool(pool="test")
async def tiny(n: int) -> dict[str, int]:
    """Take next to no time."""
    return {"n": n}


async def test_an_order_is_performed_reported_and_its_lines_published(tmp_path: Path) -> None:
    async with working(tmp_path, note) as (owner, _):
        report = await owner.report_of(owner.send(owner.order("note", {"text": "a"})))
        await until(lambda: owner.lines)
    assert report.status == "succeeded", report.error
    assert codec.loads(report.output) == {"text": "a"}
    assert report.started_at is not None
    assert report.evidence is not None
    assert [(line.text, line.sequence, line.attempt_id) for line in owner.lines] == [("noted a", 1, report.attempt_id)]


async def test_tools_are_announced_under_the_pools_key(tmp_path: Path) -> None:
    async with working(tmp_path, note, change) as (owner, _):
        await until(lambda: len(owner.announced) == 2)
    assert owner.announcements == 1, "both go in one message"
    assert owner.announced["change"].manifest.access == "gated"
    assert owner.announced["note"].manifest.effect == "read"


async def test_a_tool_that_cannot_be_announced_is_refused_by_name_and_the_others_go_on(tmp_path: Path) -> None:
    @tool(pool="test")
    def verbose() -> dict[str, str]:
        """Take no message's room."""
        return {}

    verbose.description = "long " * 250_000

    @tool(pool="gpu.large")
    def misplaced() -> dict[str, str]:
        """Be of a pool that has no name on the bus."""
        return {}

    async with working(tmp_path, verbose, misplaced, note) as (owner, worker):
        await until(lambda: owner.announced)
        await owner.report_of(owner.send(owner.order("note", {"text": "a"})))
        tools = {each["name"]: each for each in map(codec.loads, worker.beat().tools)}
    assert set(owner.announced) == {"note"}
    assert tools["verbose"]["state"] == tools["misplaced"]["state"] == "unavailable"
    assert "the manifest of tool 'verbose' takes 1250" in tools["verbose"]["reason"]
    assert "no pool can be named 'gpu.large'" in tools["misplaced"]["reason"]


def refusals() -> float:
    return sum(
        sample.value
        for metric in telemetry.REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "headrace_messages_refused_total" and sample.labels["kind"] == "work"
    )


async def forged(owner: Owner, kind: str) -> None:
    """Publish one message that asks for work and must not be believed."""
    order = owner.order("note", {"text": "forged"}, attempt=kind)
    body = encode(order)
    match kind:
        case "no seal":
            owner.bus.publish_work("test", body)
        case "another key":
            owner.bus.publish_work("test", Keys(master=b"x" * 32).pack(POOL + "test", body))
        case "another pool's key":
            owner.bus.publish_work("test", KEYS.pack(POOL + "gates", body))
        case "other arguments under the old seal":
            packed = KEYS.pack(POOL + "test", body)
            owner.bus.publish_work("test", packed.replace(b"forged", b"FORGED"))
        case "other arguments than the digest":
            changed = msgspec.structs.replace(order, arguments=Raw(codec.dumps({"text": "other"})))
            owner.bus.publish_work("test", KEYS.pack(POOL + "test", encode(changed)))
        case "an order for another pool":
            owner.bus.publish_work(
                "test", KEYS.pack(POOL + "test", encode(msgspec.structs.replace(order, pool="gates")))
            )
        case "no order at all":
            owner.bus.publish_work("test", KEYS.pack(POOL + "test", b'{"tool": 7}'))


@pytest.mark.parametrize(
    "kind",
    [
        "no seal",
        "another key",
        "another pool's key",
        "other arguments under the old seal",
        "other arguments than the digest",
        "an order for another pool",
        "no order at all",
    ],
)
async def test_a_forged_order_calls_no_tool_and_is_counted(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(tmp_path, note) as (owner, _):
        before = refusals()
        await forged(owner, kind)
        await owner.report_of(owner.send(owner.order("note", {"text": "true"})))
        assert refusals() == before + 1
    assert calls == ["true"]
    assert "no tool was called" in caplog.text


async def test_an_attempt_replayed_with_other_arguments_is_refused(tmp_path: Path) -> None:
    async with working(tmp_path, note) as (owner, _):
        await owner.report_of(owner.send(owner.order("note", {"text": "first"})))
        before = refusals()
        owner.send(owner.order("note", {"text": "second"}))
        await owner.report_of(owner.send(owner.order("note", {"text": "third"}, attempt="3")))
        assert refusals() == before + 1
    assert calls == ["first", "third"]


async def test_an_order_that_comes_twice_is_performed_once_and_reported_again(tmp_path: Path) -> None:
    async with working(tmp_path, note) as (owner, _):
        order = owner.send(owner.order("note", {"text": "once"}))
        await owner.report_of(order)
        owner.send(order)
        await until(lambda: len(owner.reports) == 2)
    assert calls == ["once"]
    assert owner.reports[0] == owner.reports[1]


async def test_a_write_is_claimed_before_it_is_performed(tmp_path: Path) -> None:
    async with working(tmp_path, change) as (owner, _):
        order = owner.send(owner.order("change", {"text": "x"}))
        report = await owner.report_of(order)
    assert report.status == "succeeded", report.error
    (claim,) = owner.claims
    assert (claim.attempt_id, claim.arguments_digest) == (order.attempt_id, order.arguments_digest)


async def test_a_write_that_is_not_granted_is_not_performed(tmp_path: Path) -> None:
    async with working(tmp_path, change) as (owner, _):
        owner.grant = False
        report = await owner.report_of(owner.send(owner.order("change", {"text": "x"})))
    assert report.status == "failed"
    assert report.error is not None
    assert "permission" in report.error.message
    assert calls == []


async def test_a_grant_that_no_owner_sealed_lets_nothing_be_performed(tmp_path: Path) -> None:
    async with working(tmp_path, change) as (owner, _):
        owner.seal_grants = False
        report = await owner.report_of(owner.send(owner.order("change", {"text": "x"})))
    assert report.status == "failed"
    assert report.error is not None
    assert "nothing was performed" in report.error.message
    assert calls == []


async def test_the_report_of_a_write_is_sent_again_until_its_owner_has_it_on_record(tmp_path: Path) -> None:
    async with working(tmp_path, change) as (owner, _):
        owner.records = False
        order = owner.send(owner.order("change", {"text": "x"}))
        await until(lambda: len(owner.reports) >= 2)
        owner.records = True
        await until(lambda: len(owner.reports) >= 3)
    assert {report.attempt_id for report in owner.reports} == {order.attempt_id}
    assert calls == ["x"]


async def test_a_report_waits_for_a_bus_that_is_away(tmp_path: Path) -> None:
    async with working(tmp_path, hang_in_thread) as (owner, _):
        order = owner.send(owner.order("hang_in_thread"))
        await until(lambda: calls)
        owner.bus.disconnect()
        gate.set()
        await asyncio.sleep(0.3)
        assert owner.reports == []
        owner.bus.reconnect()
        report = await owner.report_of(order)
    assert report.status == "succeeded"


@pytest.mark.parametrize("name", ["hang", "hang_in_thread"])
async def test_an_interrupt_ends_a_running_attempt_within_a_second(tmp_path: Path, name: str) -> None:
    async with working(tmp_path, hang, hang_in_thread) as (owner, _):
        order = owner.send(owner.order(name))
        await until(lambda: calls)
        async with asyncio.timeout(1):
            owner.control(Interrupt(attempt_id=order.attempt_id, reason="the run was cancelled"))
            report = await owner.report_of(order)
        gate.set()
    assert report.status == "cancelled"
    assert report.error is not None
    assert report.error.message == "the run was cancelled"


async def test_an_interrupt_reaches_attempts_that_still_wait_and_those_still_to_come(tmp_path: Path) -> None:
    async with working(tmp_path, hang, note, slots=1) as (owner, worker):
        running = owner.send(owner.order("hang", attempt="running"))
        await until(lambda: calls)
        coming = owner.order("note", {"text": "never"}, attempt="coming")
        owner.control(Interrupt(attempt_id=coming.attempt_id, reason="cancelled before it came"))
        owner.control(Interrupt(attempt_id=running.attempt_id, reason="enough"))
        owner.send(coming)
        assert (await owner.report_of(coming)).status == "cancelled"
        assert (await owner.report_of(running)).status == "cancelled"
        assert worker.beat().cancelled_total == 2
    assert "never" not in calls


async def test_an_interrupt_with_a_wrong_seal_is_not_obeyed(tmp_path: Path) -> None:
    async with working(tmp_path, hang_in_thread) as (owner, _):
        order = owner.send(owner.order("hang_in_thread"))
        await until(lambda: calls)
        forged = Interrupt(attempt_id=order.attempt_id, reason="forged")
        owner.bus.publish_control(Keys(master=b"x" * 32).pack(POOL + "test", encode(forged)))
        owner.bus.publish_control(encode(forged))
        owner.control(BeatNow())
        await until(lambda: order.attempt_id in owner.held())
        gate.set()
        assert (await owner.report_of(order)).status == "succeeded"


async def test_child_processes_end_with_their_attempt(tmp_path: Path) -> None:
    async with working(tmp_path, children) as (owner, _):
        order = owner.send(owner.order("children"))
        await until(lambda: owner.lines)
        grandchild = Path("/proc") / owner.lines[0].text
        assert grandchild.exists()
        owner.control(Interrupt(attempt_id=order.attempt_id, reason="stop"))
        assert (await owner.report_of(order)).status == "cancelled"
        await until(lambda: not grandchild.exists() or "State:\tZ" in (grandchild / "status").read_text())


async def test_beats_name_every_held_attempt_also_those_that_wait(tmp_path: Path) -> None:
    async with working(tmp_path, hang, slots=1) as (owner, worker):
        orders = [owner.send(owner.order("hang", attempt=str(n))) for n in range(1)]
        await until(lambda: calls)
        owner.control(BeatNow())
        await until(lambda: owner.held() == {order.attempt_id for order in orders})
        beat = owner.beats[-1]
        assert (beat.pools, beat.slots, beat.service) == (("test",), 1, "test")
        assert codec.loads(beat.tools[0])["state"] == "running"
        assert beat.worker == worker.beat().worker
        for order in orders:
            owner.control(Interrupt(attempt_id=order.attempt_id, reason="stop"))


async def test_a_probe_comes_back_on_the_presence_path(tmp_path: Path) -> None:
    async with working(tmp_path, note) as (owner, _):
        await until(lambda: owner.beats)
        packed = owner.control(Probe(owner="me", nonce="7"))
        await until(lambda: packed in owner.presence)


async def test_a_drained_worker_finishes_what_it_holds_and_takes_no_more(tmp_path: Path) -> None:
    async with working(tmp_path, hang_in_thread, note) as (owner, worker):
        order = owner.send(owner.order("hang_in_thread"))
        await until(lambda: calls)
        owner.control(Drain(worker=worker.beat().worker))
        await until(lambda: owner.beats[-1].draining)
        owner.send(owner.order("note", {"text": "late"}, attempt="late"))
        gate.set()
        assert (await owner.report_of(order)).status == "succeeded"
    assert "late" not in calls


async def test_a_thousand_tiny_steps_flow_by_credit(tmp_path: Path) -> None:
    async with working(tmp_path, tiny) as (owner, _):
        for n in range(1_000):
            owner.send(owner.order("tiny", {"n": n}, attempt=str(n)))
        await until(lambda: len(owner.reports) == 1_000)
    assert {codec.loads(report.output)["n"] for report in owner.reports} == set(range(1_000))


async def test_a_worker_without_its_pools_key_does_not_start(tmp_path: Path) -> None:
    clock = SystemClock()
    with pytest.raises(ForbiddenError, match="pool:test"):
        make_worker(
            service="test",
            bus=MemoryBus(clock),
            clock=clock,
            config=Config(keys=Keys(), file_root=tmp_path),
            registry=Registry([note]),
            blobs=MemoryBlobs(),
        )


class NoPresence(MemoryBus):
    """A bus that does not let anybody say that it lives: a defect."""

    def publish_presence(self, data: bytes) -> None:
        message = f"{len(data)} bytes of presence are refused"
        raise RuntimeError(message)


async def test_a_worker_whose_part_fails_ends_at_once_with_that_error(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as told:
        async with asyncio.timeout(20), working(tmp_path, note, bus=NoPresence(SystemClock())):
            await asyncio.Event().wait()
    (worker,) = told.value.exceptions
    assert isinstance(worker, ExceptionGroup)
    assert [str(problem).endswith("bytes of presence are refused") for problem in worker.exceptions] == [True]
