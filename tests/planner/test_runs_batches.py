"""Results of a map's items that come together: one event, and the run is as if each had come by itself."""

from typing import Any

import msgspec

import headrace
from headrace import codec
from headrace.errors import StepError
from headrace.events.runs import StepsSucceeded
from headrace.events.steering import RunWatched
from headrace.log.port import Recorded
from headrace.plans.model import InputField, ToolPin
from headrace.ports.tool import ToolContext
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time
from headrace.vocabulary import LOG_RUNS
from headrace_planner.runs.bounds import ITEMS_A_PIECE
from tests.planner.runs_kit import Sim, call, plan
from tests.tour.kit import workflow

INPUTS = {"items": InputField(type="array")}


ACTS = ToolPin(version="1", digest="sha256:a", effect="write", access="auto", pool="runner", idempotent=False)


def mapped(count: int = 6, *, pin: ToolPin | None = None, **more: Any) -> Sim:
    each = call("m", items="{{ inputs.items }}", arguments={"n": "{{ item }}"}, **more)
    made = plan(each, inputs=INPUTS)
    return Sim(msgspec.structs.replace(made, tools={"read": pin}) if pin else made).create(
        {"items": list(range(count))}
    )


def newest(sim: Sim) -> StepsSucceeded:
    return next(event for event, _ in reversed(sim.history) if isinstance(event, StepsSucceeded))


def test_results_that_come_together_are_one_event_and_the_run_is_as_if_each_had_come_alone() -> None:
    together, alone = mapped(concurrency=3), mapped(concurrency=3)
    for first in (0, 3):
        names = [f"m[{place}]" for place in range(first, first + 3)]
        assert together.together(*(together.word(name, {"n": name}) for name in names)) == len(names)
        for name in names:
            alone.report(name, {"n": name})
    assert together.names.count("steps.succeeded") == 2
    assert "steps.succeeded" not in alone.names
    assert (together.status, alone.status) == ("succeeded", "succeeded")
    assert together.run.peek("m").map == alone.run.peek("m").map
    assert together.row("steps", step="m")["output"] == alone.row("steps", step="m")["output"]
    assert together.run.data.version < alone.run.data.version
    together.check()


def test_every_result_is_in_the_event_with_its_attempt_its_worker_and_its_arguments() -> None:
    sim = mapped()
    orders = [sim.orders[f"m[{place}]"] for place in (4, 1)]
    sim.together(sim.word("m[4]", "four", worker="wrk_a"), sim.word("m[1]", "one", worker="wrk_b"))
    found = newest(sim).results
    assert [(each.index, each.worker, codec.loads(each.output)) for each in found] == [
        (4, "wrk_a", "four"),
        (1, "wrk_b", "one"),
    ]
    assert [(each.attempt_id, each.arguments_digest) for each in found] == [
        (order.attempt_id, order.arguments_digest) for order in orders
    ]


def test_what_is_no_plain_success_ends_the_batch_and_is_judged_by_itself() -> None:
    sim = mapped()
    first = sim.word("m[0]")
    assert sim.together(first, sim.word("m[1]"), sim.word("m[2]", status="failed"), sim.word("m[3]")) == 2
    assert sim.together(first, sim.word("m[3]")) == 0
    again = sim.word("m[3]")
    assert sim.together(again, sim.word("m[4]"), again, sim.word("m[5]")) == 2
    state = sim.run.peek("m").map
    assert state is not None
    assert sorted(state.open) == [2, 5]


def test_one_result_alone_is_its_own_event() -> None:
    sim = mapped()
    assert sim.together(sim.word("m[0]")) == 0
    assert "steps.succeeded" not in sim.names


def test_a_run_that_others_listen_to_tells_its_results_one_by_one() -> None:
    sim = mapped()
    sim._take((RunWatched(watch_id="w", by_run=sim.id, name="step.succeeded"),))
    assert sim.together(sim.word("m[0]"), sim.word("m[1]")) == 0


def test_a_write_that_was_never_claimed_does_not_slip_through_in_a_batch() -> None:
    sim = mapped(pin=ACTS)
    sim.claim("m[0]")
    assert sim.together(sim.word("m[0]"), sim.word("m[1]")) == 0
    sim.claim("m[1]", nonce="n2")
    assert sim.together(sim.word("m[0]"), sim.word("m[1]"), sim.word("m[2]")) == 2


@headrace.tool(pool="mill")
async def halve(number: int, context: ToolContext) -> dict[str, int]:
    """Halve an even number."""
    if number % 100 == 99:
        message = f"{number} is odd"
        raise StepError(message, type="upstream_error")
    return {"half": number // 2}


@in_virtual_time
async def test_a_long_map_on_the_engine_needs_far_fewer_events_than_items_and_keeps_every_result() -> None:
    count = ITEMS_A_PIECE + 500
    each = {
        "id": "each", "map": "{{ inputs.numbers }}", "tool": "halve", "with": {"number": "{{ item }}"},
        "on_item_error": "collect",
    }  # fmt: skip
    document = workflow(
        "mill", each, inputs={"numbers": {"type": "array"}},
        outputs={"halves": "{{ steps.each.output.map(x, x == null ? 0 : x.half).sum() }}", "failed": "{{ size(steps.each.failed) }}"},
    )  # fmt: skip
    async with Engine(tools=[halve]) as engine:
        run = await engine.run(document, {"numbers": list(range(count))})
        good = [number // 2 for number in range(count) if number % 100 != 99]
        assert await run.result() == {"halves": sum(good), "failed": count - len(good)}
        events: list[Recorded] = []
        while read := await engine.log.stream(LOG_RUNS, run.id, len(events), 1_000):
            events += read
    names = [event.type for event in events]
    assert names.count("step.failed") == count - len(good)
    assert len(names) - names.count("step.failed") < count / 3
    assert names.count("items.kept") == 1
