"""What the owner host must not keep for ever: orders that nobody will take, deadlines and holders of what is over."""

from headrace.host.cadence import QUICK
from headrace.host.deadlines import OVER_MAX, Deadlines
from headrace.host.pools import GONE_MAX, Order, Waiting
from headrace.host.presence import Presence
from headrace.testing.virtual import VirtualClock
from headrace.wire import Beat, Holding
from tests.shared.host_toy import on_virtual_time, order

MANY = 4 * max(GONE_MAX, OVER_MAX)


def _order(number: int, workspace: str = "w") -> Order:
    return Order(None, order("run_x", workspace, number), number % 3)  # type: ignore[arg-type]  # no tenure needed


def _kept(queue: Waiting) -> int:
    return sum(len(each) for queues in queue._queues.values() for each in queues.values())


def test_withdrawn_orders_of_a_pool_without_workers_do_not_pile_up() -> None:
    queue, kept = Waiting(), [_order(MANY + number, "kept") for number in range(5)]
    for each in kept:
        queue.put(each)
    for number in range(MANY):
        gone = _order(number, f"w{number % 7}")
        queue.put(gone)
        queue.withdraw(gone)
    assert len(queue) == 5
    assert _kept(queue) <= GONE_MAX + len(kept) + 1
    taken = [queue.take() for _ in range(6)]
    assert sorted(each.order.attempt_id for each in taken if each is not None) == sorted(
        each.order.attempt_id for each in kept
    )
    assert taken[-1] is None
    again = _order(1, "kept")
    queue.put(again)
    assert queue.take() is again


def test_an_order_withdrawn_among_others_is_not_taken_and_takes_nobodys_turn() -> None:
    queue, orders = Waiting(), [_order(number, f"w{number % 2}") for number in range(2 * GONE_MAX + 100)]
    for each in orders:
        queue.put(each)
    left = orders[-90:]
    for each in orders[:-90]:
        queue.withdraw(each)
    taken = []
    while (one := queue.take()) is not None:
        taken.append(one)
    assert len(taken) == len(left)
    assert {id(one) for one in taken} == {id(one) for one in left}


@on_virtual_time
async def test_deadlines_of_attempts_that_are_over_do_not_pile_up() -> None:
    clock = VirtualClock()
    deadlines = Deadlines(clock, Presence(clock, QUICK))
    until = clock.now_ms() + 3_600_000
    waiting = _order(MANY)
    deadlines.note(waiting.order.attempt_id, clock.now_ms() + 10)
    for number in range(MANY):
        deadlines.note(f"att_{number}", until)
    orders = {waiting.order.attempt_id: waiting}
    assert list(deadlines.untaken(orders)) == []
    assert len(deadlines._heap) <= OVER_MAX + 2
    clock.leap(1.0)
    list(deadlines.untaken(orders))
    clock.leap(10.0)
    assert list(deadlines.untaken(orders)) == [waiting]


class Moved(VirtualClock):
    """A clock that the test moves."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_what_a_worker_held_when_it_left_is_its_own_for_a_while_and_then_forgotten() -> None:
    clock = Moved()
    presence = Presence(clock, QUICK)

    def beat(worker: str, *, leaving: bool = False) -> Beat:
        holding = (Holding(attempt_id=f"att_{worker}", tool="t", since=0, begun=True),)
        return Beat(worker=worker, service="s", host="h", pools=("p",), slots=1, holding=holding, leaving=leaving)

    for worker in ("left", "given_up"):
        presence.heard(beat(worker))
    presence.heard(beat("left", leaving=True))
    presence.give_up("given_up")
    assert (presence.last_holder("att_left"), presence.holder("att_left")) == ("left", None)
    for number in range(int(QUICK.forgotten_s / QUICK.probe_s) + 3):
        clock.now += QUICK.probe_s
        presence.probe(f"{number}")
        presence.probe_returned(f"{number}")
    assert presence.last_holder("att_left") is None
    assert presence.last_holder("att_given_up") is None
    assert not presence._begun
