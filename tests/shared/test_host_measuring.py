"""What /metrics says once runs and steps are over: counted from what was committed, each once."""

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

import headrace
from headrace import codec, telemetry
from headrace.keys import COMMANDS
from headrace.messages import Answer, Command, CreateRun
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time
from headrace.vocabulary import LOG_RUNS, WORKSPACE_DEFAULT

WORKFLOW = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: measured}
spec:
  inputs: {fails: {type: boolean, default: false}}
  steps:
    - {id: rest, wait: {timer: 40s}}
    - {id: each, map: "{{ [1, 2, 3] }}", tool: look, with: {fails: false}, depends_on: [rest]}
    - {id: again, loop: {while: "iteration < 2", steps: [round]}, depends_on: [each]}
    - {id: last, tool: look, with: {fails: "{{ inputs.fails }}"}, depends_on: [again]}
    - {id: round, tool: look, with: {fails: false}}
"""

CHAIN = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: chain}
spec:
  steps:
    - {id: first, tool: look, with: {fails: false}}
    - {id: second, tool: look, with: {fails: false}, depends_on: [first]}
"""


class Seen(BaseModel):
    """What was seen."""

    n: int


@headrace.tool(effect="read", access="auto")
def look(*, fails: bool) -> Seen:
    """Look."""
    if fails:
        message = "there is nothing"
        raise ValueError(message)
    return Seen(n=1)


def counted() -> dict[tuple[str, ...], float]:
    """Give what the histograms say, by name, part and labels."""
    body, _ = telemetry.render("text/plain")
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            if sample.name.startswith("headrace_") and sample.name.endswith(("_count", "_sum")):
                found[(sample.name, *sample.labels.values())] = sample.value
    return found


@in_virtual_time
async def test_a_run_and_its_steps_are_measured_once_each_and_a_map_as_one_step() -> None:
    first = counted()
    async with Engine(tools=[look]) as engine:
        await (await engine.run(WORKFLOW)).until("succeeded")
        await (await engine.run(WORKFLOW, {"fails": True})).until("failed")
    now = counted()

    def more(*name: str) -> float:
        return now.get(name, 0.0) - first.get(name, 0.0)

    assert more("headrace_run_duration_seconds_count", "succeeded") == 1
    assert more("headrace_run_duration_seconds_count", "failed") == 1
    assert more("headrace_run_duration_seconds_sum", "succeeded") == pytest.approx(40, abs=2)
    assert more("headrace_step_duration_seconds_count", "wait", "succeeded") == 2
    assert more("headrace_step_duration_seconds_sum", "wait", "succeeded") == pytest.approx(80, abs=4)
    assert more("headrace_step_duration_seconds_count", "tool", "failed") == 1
    assert more("headrace_step_duration_seconds_count", "tool", "succeeded") == 5, "rounds, one last"
    assert more("headrace_step_duration_seconds_count", "map", "succeeded") == 2
    assert more("headrace_schedule_to_start_seconds_count", look.pool) == 12, (
        "each attempt: 2 x (3 items, 2 rounds, one last)"
    )


@in_virtual_time
async def test_the_trace_of_a_request_reaches_what_follows_from_it_over_the_workers() -> None:
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with Engine(tools=[look]) as engine:
        digest = await engine.plan(CHAIN)
        body = codec.raw(CreateRun(plan_digest=digest))
        command = Command(
            body=body, actor=engine.people.actor("ann"), workspace=WORKSPACE_DEFAULT, traceparent=given, key="k"
        )
        packed = engine.keys.pack(COMMANDS, codec.encode(command))
        answer = msgspec.json.decode(await engine.bus.command(LOG_RUNS, 0, packed, timeout_s=5.0), type=Answer)
        run = await engine.wait(str(codec.loads(answer.body)["id"]), "succeeded")
        found = await engine.log.stream(LOG_RUNS, run.id)
        traces = {event.type: codec.loads(event.meta).get("traceparent") for event in found}
    assert traces["run.queued"] == traces["steps.succeeded"] == traces["run.succeeded"] == given


def test_what_may_go_wrong_with_a_log_is_counted_from_0_as_soon_as_somebody_owns_some_of_it() -> None:
    telemetry.partitions_held("log_of_this_test", 1)
    text, _ = telemetry.render("text/plain")
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.labels.get("log") == "log_of_this_test" and sample.name.endswith("_total")
    }
    assert samples == {
        "headrace_parked_events_total": 0,
        "headrace_leases_lost_total": 0,
        "headrace_append_conflicts_total": 0,
    }
