"""Chains at a worker: what is performed after an order, with what, and how it is told."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace import codec, ids
from headrace.errors import StepError
from headrace.messages import ReportAttempt
from headrace.ports.tool import ToolContext
from headrace.wire import BeatNow, Drain, EndChain, FusedStep, Interrupt, WorkOrder
from headrace.worker.context import ARTIFACTS_MAX
from headrace.worker.decorator import tool
from tests.shared.worker_kit import RUN, Owner, until, working

calls: list[tuple[str, int]] = []
gates: dict[int, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    calls.clear()
    gates.clear()


@tool(pool="test")
async def up(n: int, context: ToolContext) -> dict[str, int]:
    """Give a number plus one; wait at the numbers that have a gate."""
    step = context.idempotency_key.removeprefix("key:")
    calls.append((step, n))
    if n in gates:
        await gates[n].wait()
    context.log(f"did {step}")
    return {"n": n + 1}


@tool(pool="test")
async def refuse(n: int) -> dict[str, int]:
    """Fail."""
    calls.append(("refused", n))
    message = f"not {n}"
    raise StepError(message, type="upstream_error")


@tool(pool="test")
async def large(n: int) -> dict[str, Any]:
    """Give more than an event holds."""
    return {"n": n, "text": "x" * 100_000}


@tool(pool="test")
async def notes(n: int, context: ToolContext) -> dict[str, int]:
    """Keep as many artifacts as there may be, whose names alone are more than a message holds."""
    for number in range(ARTIFACTS_MAX):
        context.artifact("note", f"{number:02000}", n)
    return {"n": n}


@tool(pool="test", effect="write", idempotent=False)
async def change(n: int) -> dict[str, int]:
    """Change the world."""
    calls.append(("changed", n))
    return {"n": n}


def attempt_id(step: str) -> str:
    return ids.derive("att", 1_800_000_000_000, 3, RUN, step)


def chain(owner: Owner, steps: int, *, scope: Any = None, **special: str) -> WorkOrder:
    """An order of `up` at 0, and steps s1, s2 … that each take what the one before gave; `special` names other tools."""
    links = []
    for place in range(1, steps):
        name = special.get(f"s{place}", "up")
        record = owner.registry.get(name)
        links.append(
            FusedStep(
                step=f"s{place}",
                attempt_id=attempt_id(f"s{place}"),
                kind="tool",
                tool=name,
                arguments=codec.raw({"n": special.get("template") or f"{{{{ steps.s{place - 1}.output.n }}}}"}),
                manifest_digest=record.digest,
                effect=record.manifest.effect,
                idempotency_key=f"key:s{place}",
                timeout_s=30.0,
            )
        )
    first = special.get("s0", "up")
    return owner.order(
        first,
        {"n": 0},
        attempt_id=attempt_id("s0"),
        step="s0",
        idempotency_key="key:s0",
        chain=tuple(links),
        scope=codec.NULL if scope is None else codec.raw(scope),
    )


def told(owner: Owner) -> list[ReportAttempt]:
    """Everything that was reported, in order, whatever message it came in."""
    return [each for report in owner.reports for each in (report, *report.then)]


async def test_the_steps_of_a_chain_are_performed_in_turn_and_told_in_one_message(tmp_path: Path) -> None:
    async with working(tmp_path, up) as (owner, _):
        order = owner.send(chain(owner, 4))
        report = await owner.report_of(order)
        await until(lambda: len(owner.lines) == 4)
    assert calls == [("s0", 0), ("s1", 1), ("s2", 2), ("s3", 3)]
    assert owner.reports == [report]
    assert [(each.step, each.after, codec.loads(each.output)) for each in told(owner)] == [
        ("s0", "", {"n": 1}),
        ("s1", "s0", {"n": 2}),
        ("s2", "s1", {"n": 3}),
        ("s3", "s2", {"n": 4}),
    ]
    assert told(owner)[2].arguments_digest == codec.sha256(codec.dumps({"n": 2}))
    assert told(owner)[-1].goes_on == ""
    assert {line.text for line in owner.lines} == {"did s0", "did s1", "did s2", "did s3"}


async def test_a_template_reads_what_came_with_the_order(tmp_path: Path) -> None:
    async with working(tmp_path, up) as (owner, _):
        scope = {"roots": {"inputs": {"m": 40}}, "steps": {"before": {"output": 1, "status": "succeeded"}}}
        template = "{{ inputs.m + steps.before.output + steps.s0.output.n }}"
        await owner.report_of(owner.send(chain(owner, 2, scope=scope, template=template)))
    assert calls == [("s0", 0), ("s1", 42)]


async def test_results_are_not_kept_back_while_a_step_takes_its_time(tmp_path: Path) -> None:
    async with working(tmp_path, up) as (owner, _):
        gates[2] = asyncio.Event()
        order = owner.send(chain(owner, 4))
        first = await owner.report_of(order)
        assert [each.step for each in (first, *first.then)] == ["s0", "s1"]
        assert first.then[-1].goes_on == attempt_id("s2")
        owner.control(BeatNow())
        await until(lambda: owner.held() == {attempt_id("s2")})
        assert owner.beats[-1].holding[0].begun
        gates[2].set()
        await until(lambda: len(told(owner)) == 4)
    assert [each.goes_on for each in told(owner)] == ["", attempt_id("s2"), "", ""]


async def test_a_step_that_fails_ends_the_chain(tmp_path: Path) -> None:
    async with working(tmp_path, up, refuse) as (owner, _):
        await owner.report_of(owner.send(chain(owner, 4, s2="refuse")))
    assert [(each.step, each.status) for each in told(owner)] == [
        ("s0", "succeeded"),
        ("s1", "succeeded"),
        ("s2", "failed"),
    ]
    assert told(owner)[-1].error is not None
    assert calls[-1] == ("refused", 2)


async def test_a_chain_ends_without_a_word_where_arguments_cannot_be_made(tmp_path: Path) -> None:
    """The planner meets the same problem and says so."""
    async with working(tmp_path, up) as (owner, _):
        await owner.report_of(owner.send(chain(owner, 3, template="{{ steps.s0.output.m }}")))
    assert [each.step for each in told(owner)] == ["s0"]


async def test_a_chain_ends_after_a_result_that_is_kept_apart(tmp_path: Path) -> None:
    async with working(tmp_path, up, large) as (owner, _):
        await owner.report_of(owner.send(chain(owner, 3, s1="large")))
    assert [each.step for each in told(owner)] == ["s0", "s1"]
    assert told(owner)[-1].blob is not None


async def test_nothing_acts_on_the_world_within_a_chain(tmp_path: Path) -> None:
    async with working(tmp_path, up, change) as (owner, _):
        await owner.report_of(owner.send(chain(owner, 3, s1="change")))
    assert [each.step for each in told(owner)] == ["s0"]
    assert calls == [("s0", 0)]


@pytest.mark.parametrize("whom", ["s0", "s1", "s2"])
async def test_any_attempt_of_a_chain_stops_it(tmp_path: Path, whom: str) -> None:
    async with working(tmp_path, up) as (owner, _):
        gates[2] = asyncio.Event()
        order = owner.send(chain(owner, 4))
        await owner.report_of(order)
        owner.control(Interrupt(attempt_id=attempt_id(whom), reason="the run was cancelled"))
        await until(lambda: len(told(owner)) == 3)
    assert [(each.step, each.status) for each in told(owner)][-1] == ("s2", "cancelled")
    assert calls[-1] == ("s2", 2)


async def test_a_chain_that_is_to_end_performs_what_it_has_begun_and_no_more(tmp_path: Path) -> None:
    async with working(tmp_path, up) as (owner, _):
        gates[1] = asyncio.Event()
        order = owner.send(chain(owner, 4))
        await owner.report_of(order)
        owner.control(EndChain(attempt_id=attempt_id("s0"), reason="the run was paused"))
        owner.control(BeatNow(nonce="heard"))
        await until(lambda: any(beat.answers == "heard" for beat in owner.beats))
        gates[1].set()
        await until(lambda: len(told(owner)) == 2)
    assert [(each.step, each.status, each.goes_on) for each in told(owner)][-1] == ("s1", "succeeded", "")
    assert calls == [("s0", 0), ("s1", 1)]


async def test_a_worker_that_takes_no_more_work_begins_no_step_of_a_chain(tmp_path: Path) -> None:
    async with working(tmp_path, up) as (owner, worker):
        gates[1] = asyncio.Event()
        await owner.report_of(owner.send(chain(owner, 4)))
        owner.control(Drain(worker=worker.beat().worker))
        await until(lambda: worker.beat().draining)
        gates[1].set()
        await until(lambda: len(told(owner)) == 2)
    assert calls == [("s0", 0), ("s1", 1)]


async def test_an_order_that_comes_again_is_told_again_with_its_chain_and_performed_once(tmp_path: Path) -> None:
    async with working(tmp_path, up) as (owner, _):
        order = chain(owner, 3)
        owner.send(order)
        await owner.report_of(order)
        owner.send(order)
        await until(lambda: len(owner.reports) == 2)
        link = owner.order("up", {"n": 1}, attempt_id=attempt_id("s1"), step="s1")
        owner.send(link)
        await until(lambda: len(owner.reports) == 3)
    assert [(report.step, len(report.then)) for report in owner.reports] == [("s0", 2), ("s0", 2), ("s1", 0)]
    assert owner.reports[-1].goes_on == ""
    assert len(calls) == 3


async def test_a_result_that_no_message_carries_fails_its_step_and_not_its_worker(tmp_path: Path) -> None:
    async with working(tmp_path, up, notes) as (owner, _):
        await owner.report_of(owner.send(chain(owner, 3, s1="notes")))
        await until(lambda: len(told(owner)) == 2)
        assert [(each.step, each.status) for each in told(owner)] == [("s0", "succeeded"), ("s1", "failed")]
        error = told(owner)[1].error
        assert error is not None
        assert "over 1048576" in error.message


async def test_what_a_chain_is_remembered_by_is_its_message_alone(tmp_path: Path) -> None:
    async with working(tmp_path, up) as (owner, worker):
        await owner.report_of(owner.send(chain(owner, 3)))
        await until(lambda: not worker.beat().holding)
        done = worker._attempts.recent.get(attempt_id("s0"))
        assert done is not None
        assert done.parcel.sent is None


async def test_a_chain_goes_no_further_than_to_what_is_performed_already(tmp_path: Path) -> None:
    async with working(tmp_path, up) as (owner, _):
        gates[7] = asyncio.Event()
        own = owner.send(owner.order("up", {"n": 7}, attempt_id=attempt_id("s2"), step="s2", idempotency_key="key:s2"))
        await until(lambda: calls == [("s2", 7)])
        await owner.report_of(owner.send(chain(owner, 4)))
        assert [each.step for each in told(owner)] == ["s0", "s1"]
        gates[7].set()
        await owner.report_of(own)


async def test_an_order_counts_for_more_than_what_a_chain_came_to(tmp_path: Path) -> None:
    async with working(tmp_path, up) as (owner, _):
        await owner.report_of(owner.send(chain(owner, 3)))
        again = msgspec.structs.replace(
            chain(owner, 1), step="s1", attempt_id=attempt_id("s1"), idempotency_key="key:s1"
        )
        other = codec.raw({"n": 7})
        again = msgspec.structs.replace(again, arguments=other, arguments_digest=codec.sha256(other), chain=())
        owner.send(again)
        await until(
            lambda: [codec.loads(each.output) for each in told(owner) if each.step == "s1"] == [{"n": 2}, {"n": 8}]
        )
        third = codec.raw({"n": 9})
        owner.send(msgspec.structs.replace(again, arguments=third, arguments_digest=codec.sha256(third)))
        await owner.report_of(owner.send(owner.order("up", {"n": 20})))
    assert [n for _, n in calls] == [0, 1, 2, 7, 20], "what was ordered once is never performed with other arguments"


async def test_beats_count_the_steps_of_a_chain_one_by_one(tmp_path: Path) -> None:
    async with working(tmp_path, up) as (owner, worker):
        await owner.report_of(owner.send(chain(owner, 5)))
        await until(lambda: not worker.beat().holding)
        assert worker.beat().done_total == 5


async def test_a_message_with_a_chain_is_understood_by_who_knows_none() -> None:
    """Versions side by side: what an older process does not know, it passes over."""

    class Old(msgspec.Struct, frozen=True, kw_only=True):
        attempt_id: str
        tool: str

    link = FusedStep(
        step="s1",
        attempt_id="att_1",
        kind="tool",
        tool="up",
        arguments=codec.raw({}),
        manifest_digest="",
        effect="read",
        idempotency_key="",
        timeout_s=1.0,
    )
    assert msgspec.json.decode(
        b'{"attempt_id":"att_0","tool":"up","chain":[' + codec.encode(link) + b"]}", type=Old
    ) == Old(attempt_id="att_0", tool="up")
