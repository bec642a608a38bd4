"""How many orders of a pool may be out, and in whose turn they leave."""

import msgspec

from headrace.codec import Raw
from headrace.host.pools import (
    AHEAD_S,
    COST_BYTES,
    QUANTUM,
    STALLED_S,
    WINDOW_BLIND,
    WINDOW_MAX,
    WINDOW_MIN,
    Order,
    Waiting,
    Window,
)
from tests.shared.host_toy import order


def test_each_live_slot_has_two_orders_and_a_pool_of_which_nobody_was_heard_a_few() -> None:
    window = Window(0.0)
    assert window.room(0, 0) == WINDOW_BLIND
    assert window.room(0, 1) == int(WINDOW_MIN)
    assert (window.room(0, 64), window.room(100, 64), window.room(200, 64)) == (128, 28, 0)


def test_a_window_grows_with_results_while_more_waits_and_shrinks_with_those_that_waited_for_a_slot() -> None:
    window = Window(0.0)
    window.finished(1.0, 0.1)
    assert window.room(0, 1) == WINDOW_MIN, "nothing waits for more room"
    window.full = True
    for _ in range(10):
        window.finished(1.0, AHEAD_S)
    assert window.room(0, 1) == WINDOW_MIN + 10
    for _ in range(3):
        window.finished(1.0, AHEAD_S + 0.1)
    assert window.room(0, 1) == WINDOW_MIN + 7
    for _ in range(20):
        window.finished(1.0, AHEAD_S + 0.1)
    assert window.room(0, 1) == WINDOW_MIN
    for _ in range(int(WINDOW_MAX) + 10):
        window.finished(1.0, 0.0)
    assert window.room(0, 1) == WINDOW_MAX


def test_a_window_halves_each_time_when_what_is_out_brings_nothing() -> None:
    window = Window(0.0)
    window.full = True
    for _ in range(28):
        window.finished(10.0, 0.0)
    assert window.size == 32
    window.tick(5, 10.0 + STALLED_S - 0.1)
    assert window.size == 32
    window.tick(5, 10.0 + STALLED_S)
    window.tick(5, 10.0 + STALLED_S + 1)
    assert window.size == 16
    window.tick(5, 10.0 + 2 * STALLED_S)
    assert window.size == 8
    window.tick(0, 100.0)  # nothing was out: nothing could come
    window.tick(5, 101.0)
    assert window.size == 8
    window.finished(104.0, 0.0)
    window.tick(5, 106.0)
    assert window.size == 9
    for number in range(9):
        window.tick(5, 200.0 + number * STALLED_S)
    assert window.size == WINDOW_MIN


def waiting(*orders: Order) -> Waiting:
    queue = Waiting()
    for each in orders:
        queue.put(each)
    return queue


def taken(queue: Waiting) -> list[str]:
    found = []
    while (each := queue.take()) is not None:
        found.append(f"{each.order.workspace}{each.order.step.removeprefix('s')}")
    return found


def an(workspace: str, number: int, *, priority: int = 0, size: int = 0, chain: int = 0) -> Order:
    made = order("run_x", workspace, number)
    links = (order("run_x", workspace, 100),) * chain
    made = msgspec.structs.replace(made, arguments=Raw(b" " * size), chain=links)
    return Order(None, made, priority)  # type: ignore[arg-type]  # no tenure needed


def test_workspaces_take_turns_of_a_few_orders_each() -> None:
    queue = waiting(*(an("a", number) for number in range(10)), *(an("b", number) for number in range(3)))
    assert len(queue) == 13
    assert taken(queue) == [
        *[f"a{number}" for number in range(QUANTUM)],
        *("b0", "b1", "b2"),
        *[f"a{number}" for number in range(QUANTUM, 10)],
    ]
    assert len(queue) == 0


def test_large_orders_and_chains_use_up_more_of_a_turn() -> None:
    large = [an("a", number, size=COST_BYTES) for number in range(4)]
    small = [an("b", number) for number in range(8)]
    assert taken(waiting(*large, *small))[:8] == ["a0", "a1", "b0", "b1", "b2", "b3", "a2", "a3"]
    chains = [an("a", number, chain=QUANTUM - 1) for number in range(3)]
    assert taken(waiting(*chains, *small))[:7] == ["a0", "b0", "b1", "b2", "b3", "a1", "b4"]


def test_of_a_workspace_what_has_priority_leaves_first_and_before_it_what_had_its_turn() -> None:
    queue = waiting(an("a", 1), an("a", 2, priority=5), an("a", 3), an("a", 4, priority=5))
    again = an("a", 5)
    queue.put(again, first=True)
    assert taken(queue) == ["a2", "a4", "a5", "a1", "a3"]


def test_an_order_that_costs_more_than_a_turn_saves_up_for_it_while_others_have_theirs() -> None:
    dear, cheap = an("a", 0, chain=QUANTUM + 1), an("a", 1)
    assert taken(waiting(dear, cheap)) == ["a0", "a1"], "with nobody beside it nothing keeps it back"
    others = [an("b", number) for number in range(6)]
    assert taken(waiting(dear, cheap, *others)) == ["b0", "b1", "b2", "b3", "a0", "a1", "b4", "b5"]
    dearest = an("a", 0, chain=5 * QUANTUM)
    many = [an("b", number) for number in range(8 * QUANTUM)]
    assert taken(waiting(dearest, *many)).index("a0") == 5 * QUANTUM, "each round brings it nearer"
