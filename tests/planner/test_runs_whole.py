"""Limits, unknown outcomes, reruns and taken-back questions with everything around them: owners, workers, gatekeeper."""

import asyncio
from typing import Any

import pytest

import headrace
from headrace import codec
from headrace.errors import ConflictError, ValidationError
from headrace.messages import LoseAttempt
from headrace.ports.tool import ToolContext
from headrace.steering import SettleOutcome
from headrace.testing.engine import Engine
from headrace.testing.views import Run
from headrace.testing.virtual import in_virtual_time
from headrace.vocabulary import INLINE_BYTES_MAX, LOG_APPROVALS, LOG_RUNS
from tests.tour.kit import Greet, workflow


@headrace.tool(pool="one")
async def ponder(seconds: float, context: ToolContext) -> dict[str, float]:
    """Take its time."""
    await asyncio.sleep(seconds)
    return {"took": seconds}


@headrace.tool(pool="one", effect="write", access="auto")
async def send(to: str, context: ToolContext) -> dict[str, str]:
    """Act on the world, slowly."""
    await asyncio.sleep(60)
    return {"sent": to}


@headrace.tool(pool="one")
async def flaky(context: ToolContext) -> dict[str, int]:
    """Fail every time."""
    message = "not today"
    raise OSError(message)


@headrace.tool(pool="one")
async def large(size: int, context: ToolContext) -> dict[str, str]:
    """Give a lot."""
    return {"text": "x" * size}


def pondering(id: str, seconds: float, **more: Any) -> dict[str, Any]:
    return {"id": id, "tool": "ponder", "with": {"seconds": seconds}, **more}


@in_virtual_time
async def test_an_attempt_that_waits_too_long_behind_others_names_the_queue() -> None:
    steps = (
        pondering("busy", 200, timeout="10m"),
        pondering("late", 1, timeout={"queue": "30s", "attempt": "10m"}, on_error="continue"),
    )
    async with Engine(tools=[ponder], slots=1) as engine:
        run = await engine.run(workflow("w", *steps))
        await run.until("succeeded", seconds=400)
        late = run.step("late")
        assert (late.status, late.error_type) == ("failed", "timeout")
        assert str(late.error_message).startswith("queue timeout: late waited 30 s for a worker of pool 'one'")
        assert run.step("busy").output == {"took": 200}


@in_virtual_time
async def test_an_attempt_that_is_performed_outlives_its_queue_timeout() -> None:
    async with Engine(tools=[ponder]) as engine:
        run = await engine.run(workflow("w", pondering("a", 100, timeout={"queue": "10s", "attempt": "10m"})))
        await run.until("succeeded", seconds=300)


@in_virtual_time
async def test_every_layer_of_time_names_itself_and_the_step() -> None:
    retry = {"max_attempts": 9, "backoff": {"initial": "10s", "factor": 1, "jitter": 0}}
    steps = (
        pondering("attempt", 60, timeout={"attempt": "20s"}, on_error="continue"),
        {"id": "step", "tool": "flaky", "retry": retry, "timeout": {"step": "25s"}, "on_error": "continue"},
    )
    async with Engine(tools=[ponder, flaky]) as engine:
        run = await engine.run(workflow("w", *steps))
        await run.until("succeeded", seconds=300)
        assert str(run.step("attempt").error_message).startswith("attempt timeout: step 'attempt'")
        assert str(run.step("step").error_message).startswith("step timeout: step step is not over after 25 s")
        over = await engine.run(workflow("w2", pondering("a", 200, timeout="10m"), timeout="30s"))
        await over.until("failed", seconds=300)
        assert over.error_message == "run timeout: the run timed out after 30 s of work, while a was performed"


@in_virtual_time
async def test_failed_attempts_and_their_delays_are_shown_while_the_run_waits() -> None:
    retry = {
        "max_attempts": 3,
        "backoff": {"initial": "10s", "factor": 2, "jitter": 0},
        "retry_on": ["tool_error"],
    }
    async with Engine(tools=[flaky]) as engine:
        run = await engine.run(workflow("w", {"id": "a", "tool": "flaky", "retry": retry}))
        await run.until("waiting")
        (wait,) = run.row["detail"]["waiting"]
        assert (run.waiting_for, wait["step"]) == ("retry", "a")
        await run.until("failed", seconds=100)
        row = await engine.log.row("steps", {"run_id": run.id, "step": "a"})
        assert row is not None
        first, second, last = row["detail"]["attempts"]
        assert (first["next_at"] - first["finished_at"], second["next_at"] - second["finished_at"]) == (10_000, 20_000)
        assert (last["number"], last["next_at"], last["error"]["type"]) == (3, None, "tool_error")


async def lost_while_sending(engine: Engine) -> Run:
    run = await engine.run(workflow("w", {"id": "a", "tool": "send", "with": {"to": "ada"}}))
    for _ in range(200):
        claims = [event for event in run.history if event.type_name() == "write.claimed"]
        if claims:
            break
        await asyncio.sleep(0.1)
    (claim,) = claims
    lost = LoseAttempt(step="a", attempt=1, attempt_id=claim.attempt_id, worker=claim.worker)  # type: ignore[attr-defined]  # a WriteClaimed
    await engine.ask(LOG_RUNS, lost, stream=run.id)
    await run.until("waiting")
    return run


@in_virtual_time
async def test_a_lost_write_waits_until_a_person_says_what_happened_and_holds_them_to_the_tools_schema() -> None:
    async with Engine(tools=[send]) as engine:
        run = await lost_while_sending(engine)
        assert run.waiting_for == "input"
        wrong = SettleOutcome(step="a", answer="happened", output=codec.raw([1]))
        with pytest.raises(ValidationError, match="send gives no such output"):
            await engine.ask(LOG_RUNS, wrong, stream=run.id)
        right = SettleOutcome(step="a", answer="happened", output=codec.raw({"sent": "ada"}), reason="it arrived")
        await engine.ask(LOG_RUNS, right, stream=run.id)
        await run.until("succeeded")
        with pytest.raises(ConflictError, match="is over"):
            await engine.ask(LOG_RUNS, right, stream=run.id)


@in_virtual_time
async def test_a_paused_run_waits_for_its_resume_however_long() -> None:
    async with Engine(tools=[Greet()]) as engine:
        steps = (
            {"id": "t", "wait": {"timer": "1h"}},
            {"id": "a", "depends_on": ["t"], "tool": "greet", "with": {"name": "x"}},
        )
        run = await engine.run(workflow("w", *steps))
        await engine.pause(run, "a look")
        await engine.pass_time("2d")
        assert (run.status, run.waiting_for) == ("waiting", "resume")
        await engine.resume(run)
        await run.until("succeeded")


@in_virtual_time
async def test_a_cancelled_runs_question_is_closed_and_both_sides_know() -> None:
    async with Engine() as engine:
        run = await engine.run(workflow("w", {"id": "ok", "approval": {}}))
        await run.until("waiting")
        await asyncio.sleep(5)
        await engine.cancel(run)
        await asyncio.sleep(30)
        (row,) = await engine.log.rows("approvals", {"subject": run.id})
        assert (row["status"], run.status) == ("superseded", "cancelled")
        assert run.events[-1] == "approval.resolved"
        assert (run.row["busy"], run.row["wake_at"]) == (False, None)
        assert await engine.log.due(LOG_APPROVALS, range(4), 2**53, 10) == []


@in_virtual_time
async def test_a_rerun_performs_only_what_comes_after_also_with_large_results() -> None:
    size = INLINE_BYTES_MAX * 2
    steps = (
        {"id": "one", "tool": "large", "with": {"size": size}},
        {"id": "many", "map": "{{ [1, 2] }}", "tool": "large", "with": {"size": size}},
        {
            "id": "last",
            "transform": {
                "sizes": "{{ [size(steps.one.output.text), size(steps.many.output[1].text)] }}",
                "w": "{{ inputs.w }}",
            },
        },
    )
    spec = workflow("w", *steps, inputs={"w": {"type": "string", "default": "a"}}, outputs="{{ steps.last.output }}")
    async with Engine(tools=[large]) as engine:
        run = await engine.run(spec)
        assert await run.result() == {"sizes": [size, size], "w": "a"}
        new = await engine.rerun(run, "last", {"w": "b"})
        assert await new.result() == {"sizes": [size, size], "w": "b"}
        assert new.events.count("step.reused") == 2
        assert [event.type_name() for event in new.history if getattr(event, "worker", None)] == []
        third = await engine.rerun(new, "last")
        assert await third.result() == {"sizes": [size, size], "w": "b"}


@in_virtual_time
async def test_a_rerun_with_an_input_that_a_standing_result_has_read_is_refused() -> None:
    steps = (
        {"id": "a", "tool": "greet", "with": {"name": "{{ inputs.who }}"}},
        {"id": "b", "depends_on": ["a"], "transform": {"x": 1}},
    )
    spec = workflow("w", *steps, inputs={"who": {"type": "string", "default": "ada"}})
    async with Engine(tools=[Greet()]) as engine:
        run = await engine.run(spec)
        await run.until("succeeded")
        with pytest.raises(ConflictError, match="step 'a' has read the input 'who'"):
            await engine.rerun(run, "b", {"who": "bob"})
        new = await engine.rerun(run, "a", {"who": "bob"})
        await new.until("succeeded")
        assert new.step("a").output == {"text": "Hello bob"}
