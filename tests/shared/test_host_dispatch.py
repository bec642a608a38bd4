"""Dispatch and presence: fair shares, windows, repair of what was lost, and no flood."""

import asyncio

import msgspec

from headrace import codec
from headrace.host.cadence import QUICK
from headrace.host.pools import AHEAD_S, WINDOW_BLIND, WINDOW_MIN, Order, Waiting, Window
from headrace.host.presence import Presence
from headrace.keys import OWNERS
from headrace.messages import ClaimWrite, ReportAttempt, Told
from headrace.testing.virtual import VirtualClock
from headrace.vocabulary import LOG_RUNS
from headrace.wire import Beat, Holding, Probe
from tests.shared.host_toy import KEYS, POOL_NAME, Add, Worker, World, on_virtual_time, order, until


def _waiting(*orders: tuple[str, int]) -> tuple[Waiting, list[tuple[str, int]]]:
    queue = Waiting()
    for number, (workspace, priority) in enumerate(orders):
        queue.put(Order(None, order("run_x", workspace, number), priority))  # type: ignore[arg-type]  # no tenure needed
    taken = []
    while (one := queue.take()) is not None:
        taken.append((one.order.workspace, one.priority))
    return queue, taken


def test_workspaces_take_turns_however_much_one_of_them_asks_for() -> None:
    _, taken = _waiting(*[("big", 0)] * 100, *[("small", 0)] * 4)
    assert taken.index(("small", 0)) <= 4
    assert [workspace for workspace, _ in taken[:16]].count("small") == 4


def test_within_a_workspace_the_higher_priority_goes_first() -> None:
    _, taken = _waiting(("w", 0), ("w", 5), ("w", 0), ("w", 9))
    assert [priority for _, priority in taken] == [9, 5, 0, 0]


def test_a_window_grows_with_results_and_halves_without() -> None:
    window = Window(0.0)
    assert window.room(0, 0) == WINDOW_BLIND
    assert window.room(0, 50) == 100
    window.finished(1.0, 0.01)
    assert window.size == WINDOW_MIN  # nothing waits for more room
    window.full = True
    for _ in range(10):
        window.finished(1.0, 0.01)
    assert window.size == WINDOW_MIN + 10
    for second in range(10, 100, 10):
        window.tick(5, float(second))
    assert window.size == WINDOW_MIN


def test_a_window_shrinks_when_orders_wait_long_for_a_slot() -> None:
    window = Window(0.0)
    window.full = True
    for _ in range(100):
        window.finished(1.0, 0.02)
    assert window.size == WINDOW_MIN + 100
    for _ in range(200):
        window.finished(2.0, AHEAD_S + 0.1)
    assert window.size == WINDOW_MIN


def test_a_pool_that_is_busy_with_one_workspace_takes_another_ones_first_order_within_about_a_second() -> None:
    """Simulates a pool of two slots and tools of a second: how much is out before an order that comes late."""
    queue, window, now = Waiting(), Window(0.0), 0.0
    for number in range(10_000):
        queue.put(Order(None, order("run_noisy", "noisy", number), 0))  # type: ignore[arg-type]  # no tenure needed
    out: list[tuple[float, str]] = []
    seconds_waited = None
    for tick in range(2_000):
        window.full = True
        while window.room(len(out), 2) and (one := queue.take()) is not None:
            out.append((now, one.order.workspace))
        for published, workspace in [out.pop(0) for _ in range(min(2, len(out)))]:
            now_ended = now + 1.0
            window.finished(now_ended, now_ended - published - 1.0)
            if workspace == "quiet":
                seconds_waited = tick - 999
        now += 1.0
        if tick == 999:
            queue.put(Order(None, order("run_quiet", "quiet", 1), 0))  # type: ignore[arg-type]  # no tenure needed
        if seconds_waited is not None:
            break
    assert seconds_waited is not None
    assert seconds_waited <= 5


@on_virtual_time
async def test_orders_leave_after_the_commit_and_end_with_their_result() -> None:
    async with World() as world:
        host = await world.host()
        worker = await Worker(world).begin()
        stream = world.stream(0)
        await world.ask(Add(orders=3), stream=stream)
        await until(lambda: len(worker.orders) == 3)
        assert all(one.blob_token for one in worker.orders)
        for taken in list(worker.orders):
            await worker.report(taken)
        await until(lambda: not any(host.dispatcher.knows(taken.attempt_id) for taken in worker.orders))
        await asyncio.sleep(30)
        assert len(worker.orders) == 3


@on_virtual_time
async def test_a_backlog_without_workers_is_published_as_far_as_the_window_and_not_again() -> None:
    async with World() as world:
        await world.host()
        await world.ask(Add(orders=500), stream=world.stream(0))
        await asyncio.sleep(120)
        passed = await world.bus.passed(POOL_NAME)
        assert passed.last == WINDOW_BLIND
        worker = await Worker(world).begin()
        done: set[str] = set()

        async def work() -> bool:
            for taken in [one for one in worker.orders if one.attempt_id not in done]:
                done.add(taken.attempt_id)
                await worker.report(taken)
            return len(done) == 500

        await until(work, seconds=300)
        assert len(worker.orders) == 500  # each exactly once


@on_virtual_time
async def test_an_order_lost_with_the_stream_is_published_again() -> None:
    async with World() as world:
        await world.host()
        await world.ask(Add(orders=2), stream=world.stream(0))
        await asyncio.sleep(3)
        world.broker.wipe()
        worker = await Worker(world).begin()
        await until(lambda: len(worker.orders) == 2, seconds=60)


@on_virtual_time
async def test_what_a_live_worker_holds_is_not_published_again() -> None:
    async with World() as world:
        await world.host()
        worker = await Worker(world).begin()
        await world.ask(Add(orders=2), stream=world.stream(0))
        await asyncio.sleep(300)
        assert len(worker.orders) == 2


@on_virtual_time
async def test_a_new_owner_asks_before_it_publishes_again() -> None:
    async with World() as world:
        await world.host("a")
        worker = await Worker(world).begin()
        await world.ask(Add(orders=2), stream=world.stream(0))
        await until(lambda: len(worker.orders) == 2)
        dropped = worker.orders[1]
        del worker.holding[dropped.attempt_id]
        world.tasks.pop("a").cancel()
        await asyncio.sleep(1)
        await world.host("b")
        await until(lambda: len(worker.orders) == 3, seconds=60)
        assert worker.orders[2].attempt_id == dropped.attempt_id
        assert any(told["type"] == "beat_now" for told in worker.controls)
        await asyncio.sleep(60)
        assert len(worker.orders) == 3


@on_virtual_time
async def test_an_order_of_a_dead_owner_that_nobody_has_goes_out_again_within_two_seconds_of_its_end() -> None:
    async with World() as world:
        await world.host("a")
        worker = await Worker(world).begin()
        await world.ask(Add(orders=1), stream=world.stream(0))
        await until(lambda: len(worker.orders) == 1)
        worker.holding.clear()
        world.kill("a")
        world.log.end_session("a")
        began = world.clock.monotonic()
        await world.host("b")
        await until(lambda: len(worker.orders) == 2)
        assert world.clock.monotonic() - began < 2  # virtual seconds: a lease is 4, silence counts after 1
        assert worker.orders[1].attempt_id == worker.orders[0].attempt_id


@on_virtual_time
async def test_an_owner_says_at_once_that_it_serves_what_it_has_taken() -> None:
    async with World() as world:
        heard: list[Probe] = []
        await world.bus.open_presence(
            lambda packed: heard.append(msgspec.json.decode(KEYS.unpack(packed)[1], type=Probe))
        )
        host = await world.host("a")
        await until(lambda: any(probe.served for probe in heard))
        assert host.tenures.opened
        assert {(probe.owner, probe.served) for probe in heard if probe.served} == {("a", 1)}


@on_virtual_time
async def test_a_result_that_waits_for_the_new_owner_ends_its_attempt() -> None:
    """The result is the first message of a stream that was under way: its order is not sent a second time."""
    async with World(partitions=1) as world:
        await world.host()
        worker = await Worker(world).begin()
        stream = world.stream(0)
        await world.ask(Add(orders=2), stream=stream)
        await until(lambda: len(worker.orders) == 2)
        world.kill("a")
        await worker.report(worker.orders[0])
        host = await world.host("b")
        await until(lambda: _done(world, stream, 1))
        await asyncio.sleep(60)
        assert not host.dispatcher.knows(worker.orders[0].attempt_id)
        assert host.dispatcher.knows(worker.orders[1].attempt_id)
        assert len(worker.orders) == 2


@on_virtual_time
async def test_the_attempts_of_a_dead_worker_are_lost() -> None:
    async with World() as world:
        await world.host()
        worker = await Worker(world).begin()
        stream = world.stream(0)
        await world.ask(Add(orders=1), stream=stream)
        await until(lambda: len(worker.orders) == 1)
        await asyncio.sleep(3)
        worker.silent = True
        await asyncio.sleep(5)
        assert len(await world.log.stream("runs", stream)) == 1
        await asyncio.sleep(15)
        (lost,) = (await world.log.stream("runs", stream))[1:]
        assert worker.orders[0].attempt_id in lost.data.decode()


@on_virtual_time
async def test_an_owner_at_rest_probes_half_as_often_and_a_worker_that_dies_right_after_is_lost_as_soon_as_ever() -> (
    None
):
    async with World() as world:
        await world.host()
        worker = await Worker(world).begin()
        probes: list[bytes] = []

        def hear(data: bytes) -> None:
            if data.startswith(b"owners"):
                probes.append(data)

        await world.bus.open_presence(hear)
        await asyncio.sleep(20)
        assert 9 <= len(probes) <= 11
        stream = world.stream(0)
        await world.ask(Add(orders=1), stream=stream)
        await until(lambda: len(worker.orders) == 1)
        await asyncio.sleep(2.5)  # a beat says who holds it
        worker.silent = True
        probes.clear()
        await asyncio.sleep(12)
        assert len(probes) >= 10
        (lost,) = (await world.log.stream("runs", stream))[1:]
        assert worker.orders[0].attempt_id in lost.data.decode()


@on_virtual_time
async def test_a_cut_path_does_not_look_like_dead_workers() -> None:
    async with World() as world:
        await world.host()
        worker = await Worker(world).begin()
        stream = world.stream(0)
        await world.ask(Add(orders=1), stream=stream)
        await until(lambda: len(worker.orders) == 1)
        await asyncio.sleep(3)
        world.buses["a"].disconnect()
        await asyncio.sleep(120)
        world.buses["a"].reconnect()
        await asyncio.sleep(30)
        assert len(await world.log.stream("runs", stream)) == 1
        assert len(worker.orders) == 1


@on_virtual_time
async def test_a_stop_reaches_what_is_out() -> None:
    async with World() as world:
        await world.host()
        worker = await Worker(world).begin(slots=1)
        stream = world.stream(0)
        await world.ask(Add(orders=1), stream=stream)
        await until(lambda: len(worker.orders) == 1)
        attempt_id = worker.orders[0].attempt_id
        await world.ask(Add(stop=attempt_id), stream=stream)
        await until(lambda: any(told.get("attempt_id") == attempt_id for told in worker.controls))


@on_virtual_time
async def test_a_claim_is_granted_after_its_commit_and_refused_with_a_reason() -> None:
    async with World() as world:
        await world.host()
        stream = world.stream(0)
        await world.ask(Add(orders=1), stream=stream)

        async def claim(nonce: str, label: str) -> bytes:
            command = ClaimWrite(
                run_id=stream, step="s", attempt=1, attempt_id="att_x", nonce=nonce, arguments_digest="", worker="wrk_1"
            )
            return await world.bus.claim("runs", 0, KEYS.pack(label, codec.encode(command)), timeout_s=5)

        granted = await claim("good", "pool:runner")
        assert b'"granted":true' in granted
        assert KEYS.unpack(granted)[0] == "pool:runner"
        assert b"claimed by another" in await claim("bad", "pool:runner")
        assert b'"granted":false' in await claim("good", "commands")


class Moved(VirtualClock):
    now = 0.0

    def monotonic(self) -> float:
        return self.now


def _beat(worker: str, *attempts: str) -> Beat:
    holding = tuple(Holding(attempt_id=one, tool="t", since=0) for one in attempts)
    return Beat(worker=worker, service="s", host="h", pools=("p",), slots=2, holding=holding)


def _listen(presence: Presence, clock: Moved, seconds: int) -> None:
    for _ in range(seconds):
        clock.now += 1
        presence.probe(str(clock.now))
        presence.probe_returned(str(clock.now))


def test_silence_counts_only_while_probes_return() -> None:
    clock = Moved()
    presence = Presence(clock)
    _listen(presence, clock, 3)
    presence.heard(_beat("w", "att_1"))
    clock.now += 1_000  # nothing returns
    assert presence.holder("att_1") == "w"
    _listen(presence, clock, 5)
    assert presence.holder("att_1") == "w"  # the clock began again with the first that returned
    _listen(presence, clock, int(QUICK.lost_s))
    assert presence.holder("att_1") is None
    assert presence.last_holder("att_1") == "w"
    assert presence.pools() == {}
    _listen(presence, clock, int(QUICK.forgotten_s))
    assert presence.workers() == []


def test_what_a_worker_held_that_was_given_up_and_came_back_is_known_as_its_only_as_long_as_it_says_so() -> None:
    clock = Moved()
    presence = Presence(clock)
    presence.heard(_beat("w", "att_1", "att_2"))
    presence.give_up("w")
    for _ in range(int(QUICK.forgotten_s) + 10):
        presence.heard(_beat("w", "att_2"))
        _listen(presence, clock, 1)
    assert (presence.last_holder("att_1"), presence.holder("att_2")) == (None, "w")


def test_a_beat_says_what_is_held_now() -> None:
    presence = Presence(Moved())
    presence.heard(_beat("w", "att_1", "att_2"))
    presence.heard(_beat("w", "att_2"))
    assert presence.holder("att_1") is None
    assert presence.holder("att_2") == "w"
    assert presence.pools() == {"p": 2}


async def _done(world: World, stream: str, count: int) -> bool:
    events = await world.log.stream(LOG_RUNS, stream)
    return sum(event.type == "step.succeeded" for event in events) >= count


@on_virtual_time
async def test_an_attempt_that_is_ordered_behind_an_early_word_about_it_goes_out_though_both_came_together() -> None:
    async with World(partitions=1) as world:
        await world.host()
        worker = await Worker(world).begin()
        stream = world.stream(0)
        await world.ask(Add(amount=1), stream=stream)
        coming = order(stream, "default", 1_000)
        early = ReportAttempt(
            run_id=stream, step="s1000", attempt=1, attempt_id=coming.attempt_id, status="succeeded", worker="wrk_9"
        )
        told = [Told(stream_id=stream, body=codec.raw(one), workspace="default") for one in (early, Add(orders=1))]
        together = b"[" + b",".join(codec.encode(one) for one in told) + b"]"
        await world.bus.tell(LOG_RUNS, 0, KEYS.pack(OWNERS, together))
        await until(lambda: [taken.attempt_id for taken in worker.orders] == [coming.attempt_id])
