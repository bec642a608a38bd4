"""Every way a run can stand still, met in the real engine and explained by the api: a sentence, and what would move it."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel
from typer.main import get_command

import headrace
from headrace.cli.commands import app
from headrace.codec import encode
from headrace.errors import StepError
from headrace.keys import POOL
from headrace.messages import CancelRun
from headrace.plans import model
from headrace.ports.tool import ToolContext
from headrace.steering import PauseRun
from headrace.testing.engine import Engine
from headrace.testing.views import Run
from headrace.testing.virtual import in_virtual_time
from headrace.vocabulary import LOG_RUNS, RunStatus
from headrace.wire import Beat, Holding
from headrace_api import flowing
from headrace_api.explaining import explain
from headrace_api.presence import Presence


class Done(BaseModel):
    """Nothing much."""

    n: int = 1


@headrace.tool(effect="read", access="auto")
async def fails() -> Done:
    """Fail."""
    message = "not today"
    raise StepError(message, type="upstream_error")


@headrace.tool(effect="read", access="auto")
async def lasts(context: ToolContext) -> Done:
    """Go on for an hour."""
    await asyncio.sleep(3_600)
    return Done()


@headrace.tool(effect="notify", access="auto")
async def soon() -> Done:
    """Be done at once."""
    return Done()


@headrace.tool(effect="read", access="auto", rate_limit="1/1h")
async def rare() -> Done:
    """Be done once an hour."""
    return Done()


Act = Callable[[Engine, Run], Awaitable[object]]


class Case(NamedTuple):
    """A document, what makes it stand still, and what is said of it."""

    steps: str
    waits_for: str | None
    message: str
    remedy: str
    act: Act | None = None
    more: str = ""
    twice: bool = False


async def paused(engine: Engine, run: Run) -> None:
    await engine.ask(LOG_RUNS, PauseRun(reason="a look"), stream=run.id)


async def cancelled(engine: Engine, run: Run) -> None:
    await engine.ask(LOG_RUNS, CancelRun(), stream=run.id)


LASTS = "- {id: one, tool: lasts, timeout: 2h}"
CHILD = (
    "{apiVersion: headrace/v1, kind: Workflow, metadata: {name: child}, spec: {steps: [{id: a, wait: {timer: 1h}}]}}"
)
CASES = {
    "start": Case("- {id: a, transform: 1}", "start", "somebody to start it", "headrace runs start ID", more="automation: human_approval"),
    "approval": Case(
        "- {id: ask, approval: {roles: [approver], prompt: ok?, expires: 1d}}",
        "approval", "step ask waits for the approval of 1 approver other than ann; undecided at 20.*Z it counts as rejected",
        "headrace approvals approve apr_",
    ),
    "approval by several": Case(
        "- {id: ask, approval: {roles: [approver, admin], quorum: 2, prompt: ok?}}",
        "approval", "step ask waits for the approval of 2 people with the role approver or admin other than ann", "headrace approvals approve apr_",
    ),
    "approval of the run": Case(
        "- {id: put, tool: file_write, with: {path: a, contents: b}}",
        "approval", "all of its gated tools wait for the approval of 1 approver other than ann", "headrace approvals approve apr_",
    ),
    "timer": Case("- {id: rest, wait: {timer: 1h}}", "timer", "step rest waits until 20.*Z", "it goes on at that time"),
    "retry": Case(
        "- {id: one, tool: fails, retry: {max_attempts: 2, backoff: {initial: 30m}}}",
        "retry", "step one failed .upstream_error: not today. and is tried again at 20.*Z", "tried again at that time",
    ),
    "pause": Case("- {id: rest, wait: {timer: 1h}}", "resume", r"it is paused by ann \(a look\): nothing new begins", "headrace runs resume ID", paused),
    "signal": Case("- {id: s, wait: {signal: go, timeout: 1d}}", "signal", "step s waits for .*go.*, until 20.*Z at the latest", "headrace runs signal ID go"),
    "event": Case("- {id: e, wait: {event: pushed}}", "event", "step e waits for .*pushed", "headrace trigger pushed"),
    "child": Case("- {id: c, sub_workflow: {workflow: child}}", "children", "step c waits for a child run: run_", "headrace runs explain run_"),
    "concurrency": Case("- {id: rest, wait: {timer: 1h}}", "concurrency", "waiting for .*'k'", "headrace runs cancel run_|it goes on when", more="concurrency: {key: k}", twice=True),
    "rate limit": Case("- {id: one, tool: rare}", "rate_limit", "the rate limit of rare .*, which has room again at 20.*Z", "it goes on when the rate limit has room", twice=True),
    "cancel under way": Case(LASTS, None, "a cancel was asked for", "headrace workers", cancelled),
    "compensation": Case(
        "- {id: did, tool: soon, compensate: {tool: lasts}}\n    - {id: bad, tool: fails, depends_on: [did]}",
        None, "what its steps did is being undone, did now", "it ends by itself",
    ),
    "pool": Case(LASTS, None, "no worker serves the pool 'test_explaining'", "headrace worker test_explaining.py"),
}  # fmt: skip


async def reasons_of(engine: Engine, run: Run, presence: Presence | None = None) -> list[dict[str, Any]]:
    row = run.row
    steps = await engine.log.rows("steps", {"run_id": run.id}, order="ordinal", descending=False, limit=100)
    body = (await engine.log.get_blobs([row["plan_digest"]]))[row["plan_digest"]]
    return explain(row, steps, model.parse(body), presence or Presence(engine.clock, engine.keys), {})


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_stands_still_says_why_and_what_would_move_it(name: str) -> None:
    _stands(CASES[name])


@in_virtual_time
async def _stands(case: Case) -> None:
    head = f"apiVersion: headrace/v1\nkind: Workflow\nmetadata: {{name: w}}\nspec:\n  {case.more}\n  steps:\n"
    async with Engine(tools=[fails, lasts, rare, soon]) as engine:
        await engine.apply(CHILD)
        runs = [await engine.run(head + f"    {case.steps}\n") for _ in range(2 if case.twice else 1)]
        run = runs[-1]
        await engine.pass_time("2s")
        if case.act is not None:
            await case.act(engine, run)
        assert run.status not in {RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}
        found = await reasons_of(engine, run)
        fitting = [each for each in found if re.search(case.message, each["message"])]
        assert fitting, found
        assert fitting[0]["waiting_for"] == case.waits_for
        assert re.search(case.remedy.replace("ID", run.id), fitting[0]["remedy"]), fitting
        assert all(each["remedy"] for each in found), found
        for command in re.findall(r"`headrace ([a-z ]+)", " ".join(each["remedy"] for each in found)):
            assert known(command.split()), command


@in_virtual_time
async def test_a_step_that_no_worker_holds_yet_says_how_full_its_pool_is() -> None:
    head = "apiVersion: headrace/v1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  steps:\n"
    async with Engine(tools=[lasts]) as engine:
        presence = Presence(engine.clock, engine.keys)
        run = await engine.run(f"{head}    {LASTS}\n")
        await engine.pass_time("2s")

        def beat(worker: str, *begun: bool) -> None:
            held = tuple(
                Holding(attempt_id=f"att_{n}", tool="lasts", since=1, run_id="run_other", begun=each)
                for n, each in enumerate(begun)
            )
            said = Beat(worker=worker, service="worker", host="h", pools=("test_explaining",), slots=2, holding=held)
            presence.deliver(engine.keys.pack(f"{POOL}test_explaining", encode(said)))

        beat("wrk_1", True, False)
        (one,) = await reasons_of(engine, run, presence)
        assert "was handed to the pool 'test_explaining' (1 worker, 1 of 2 slots taken)" in one["message"]
        assert (one["step"], "a worker says so within seconds" in one["remedy"]) == ("one", True)
        beat("wrk_1", True, True, False)
        beat("wrk_2", True, True)
        (one,) = await reasons_of(engine, run, presence)
        assert one["message"] == (
            "step one waits in line for the pool 'test_explaining': all 4 slots of its 2 workers are taken"
        )
        assert "more workers would take it sooner" in one["remedy"]


@in_virtual_time
async def test_of_each_map_whose_items_wait_for_a_rate_limit_that_is_said_and_not_that_it_runs() -> None:
    head = "apiVersion: headrace/v1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  steps:\n"
    async with Engine(tools=[rare]) as engine:
        presence = Presence(engine.clock, engine.keys)
        said = Beat(worker="wrk_1", service="worker", host="h", pools=("test_explaining",), slots=2)
        presence.deliver(engine.keys.pack(f"{POOL}test_explaining", encode(said)))
        await engine.run(f"{head}    - {{id: one, tool: rare}}\n")
        await engine.pass_time("2s")
        maps = "    - {id: m, map: [1, 2, 3], tool: rare}\n    - {id: n, map: [1, 2], tool: rare}\n"
        run = await engine.run(head + maps)
        await engine.pass_time("2s")
        reasons = await reasons_of(engine, run, presence)
        told = [(each["step"], each["waiting_for"], each["message"].partition(",")[0]) for each in reasons]
        assert sorted(told) == [
            ("m", "rate_limit", "waiting for 3 attempts: the rate limit of rare (1 in 3600 s)"),
            ("n", "rate_limit", "waiting for 2 attempts: the rate limit of rare (1 in 3600 s)"),
        ]
        assert flowing.flows_of(run.row) == [run.row["detail"]["waiting"][0]["flow_id"]]


def test_a_run_in_line_for_a_key_is_shown_the_limit_that_it_asked_with_itself() -> None:
    kept = {"for": "concurrency", "message": "the concurrency key 'k' (one run at a time)", "limit": 1}
    newest = {"key": "k", "limit": 5, "queued": 2, "detail": {"holders": [{"run_id": "run_9"}], "queue": []}}
    message, _, _ = flowing.told("run_1", kept, newest)
    assert message.startswith("waiting for the concurrency key 'k' (one run at a time), held by run run_9")
    before, _, _ = flowing.told("run_1", {"for": "concurrency", "message": "its turn"}, newest)
    assert "(5 runs at a time)" in before, "a run that has not asked yet has no limit on record"


def known(words: list[str]) -> bool:
    """Tell whether the command line has the command that words begin with."""
    command: Any = get_command(app())
    for word in words:
        if not hasattr(command, "commands"):
            return True
        command = command.commands.get(word)
        if command is None:
            return False
    return True
