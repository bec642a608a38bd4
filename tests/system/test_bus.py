"""What reaches headrace over a real NATS server: forged work, triggers of plain clients, and a thousand commands at once."""

import asyncio
import json
import os
import signal
from typing import Any

import httpx2
import msgspec
import nats
import pytest
from nats.aio.msg import Msg

from headrace import codec, ids
from headrace.bus.jetstream import JetStreamBus
from headrace.bus.subjects import Names
from headrace.clock import SystemClock
from headrace.events.base import Actor
from headrace.keys import COMMANDS, POOL, Keys
from headrace.log.migrate import check
from headrace.messages import Answer, Command, CreateRun
from headrace.vocabulary import LOG_PARTITIONS, LOG_RUNS
from headrace.wire import WorkOrder
from tests.system.kit import Site, until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

WRITE = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: write}
spec:
  steps:
    - id: agree
      approval: {roles: [approver], prompt: "Write?"}
    - id: write
      depends_on: [agree]
      tool: file_write
      with: {path: genuine.txt, contents: "as approved"}
"""
ON_RELEASE = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: on-release}
spec:
  triggers:
    - {type: event, event: release, when: "event.wanted"}
  steps:
    - id: told
      transform: "{{ trigger.number }}"
"""
ADD = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: add}
spec:
  steps:
    - id: sum
      transform: "{{ 1 + 1 }}"
"""
RUNS = 1_000
APPENDS_MAX = 200


async def refused(site: Site) -> float:
    """Give how many work messages the runner has refused so far, by its own metrics."""
    port = site.up.service("runner").environ()["HEADRACE_HEALTH_PORT"]
    async with httpx2.AsyncClient(timeout=5) as http:
        text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("headrace_messages_refused_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if 'kind="work"' in line)


async def test_a_forged_work_message_calls_no_tool_and_is_reported(site: Site) -> None:
    subject = Names(await check(site.postgres.url)).work("runner")
    seen: list[bytes] = []

    async def keep(message: Msg) -> None:
        seen.append(message.data)

    plain = await nats.connect(site.nats.url)
    await plain.subscribe(subject, cb=keep)
    await plain.flush(5)
    async with site.up.client() as client:
        run = await client.create_run(spec=WRITE)
        token = await client.create_token("grace", ["approver"])
        asked = await until(lambda: client.approvals(run_id=run.id), "the run to ask for an approval")
        async with site.up.client(token["token"]) as grace:
            await grace.decide(asked[0], "approve")
        await site.finished(client, run.id)
    genuine = next(data for data in seen if b"genuine.txt" in data)
    order = msgspec.json.decode(site.keys.unpack(genuine)[1], type=WorkOrder)
    other = msgspec.structs.replace(
        order, arguments=codec.raw({"path": "forged.txt", "contents": "x"}), attempt_id="att_" + "0" * 26
    )
    own = msgspec.structs.replace(other, arguments_digest=codec.sha256(bytes(other.arguments)))
    label = POOL + "runner"
    before = await refused(site)
    forged = [
        codec.encode(own),
        Keys(master=os.urandom(32)).pack(label, codec.encode(own)),
        genuine.replace(b"genuine.txt", b"forgery.txt"),
        site.keys.pack(POOL + "integrations", codec.encode(own)),
        site.keys.pack(label, codec.encode(other)),
    ]
    for message in forged:
        await plain.publish(subject, message)
    (site.root / "genuine.txt").unlink()
    await plain.publish(subject, genuine)
    await plain.flush(5)

    async def reported() -> bool:
        return await refused(site) >= before + len(forged)

    await until(reported, "the runner to report what it refused")
    async with site.up.client() as client:
        probe = await client.create_run(
            spec=ADD.replace('transform: "{{ 1 + 1 }}"', "tool: file_glob\n      with: {pattern: '*'}")
        )
        await site.finished(client, probe.id)
    assert "refused" in site.up.log_of("runner")
    assert [path.name for path in site.root.glob("*.txt")] == []
    await plain.close()


async def applied(site: Site) -> None:
    """See to it that the workflow is there which release triggers start: each test by itself does."""
    async with site.up.client() as client:
        await client.apply(ON_RELEASE)


async def plain_publish(site: Site, number: int, *, wanted: bool = True) -> None:
    """Publish a trigger as any NATS client would, and wait for JetStream's acknowledgement."""
    plain = await nats.connect(site.nats.url)
    body = json.dumps({"number": number, "wanted": wanted}).encode()
    headers = {"Nats-Msg-Id": f"release-{number}"}
    await plain.jetstream(timeout=10).publish("headrace.trigger.release", body, headers=headers)
    await plain.close()


async def started(site: Site, numbers: range) -> dict[str, list[str]]:
    """Give the runs that triggers started, by the trigger's message id."""
    found: dict[str, list[str]] = {f"release-{number}": [] for number in numbers}
    for row in await site.rows("select id, labels from headrace.runs where workflow = 'on-release'"):
        labels = row["labels"] if isinstance(row["labels"], dict) else json.loads(row["labels"])
        found.setdefault(labels["trigger_id"], []).append(row["id"])
    return {key: runs for key, runs in found.items() if int(key.removeprefix("release-")) in numbers}


async def test_a_plain_client_starts_a_run_and_the_feed_tells_of_it(site: Site) -> None:
    told: list[dict[str, Any]] = []

    async def hear(message: Msg) -> None:
        told.extend(json.loads(message.data))

    await applied(site)
    plain = await nats.connect(site.nats.url)
    await plain.subscribe("headrace.feed.runs", cb=hear)
    await plain.flush(5)
    await plain_publish(site, 0)
    await plain_publish(site, 0)
    await plain_publish(site, 999, wanted=False)

    def queued() -> list[dict[str, Any]]:
        return [event for event in told if event["type"] == "run.queued" and "release-0" in json.dumps(event["data"])]

    await until(queued, "run.queued with the message id on the feed")
    own = {"release-0", "release-999"}
    assert queued()[0]["specversion"] == "1.0"
    assert {key: len(runs) for key, runs in (await started(site, range(1000))).items() if key in own} == {
        "release-0": 1,
        "release-999": 0,
    }
    await plain.close()


async def test_no_acknowledged_trigger_is_lost_while_planner_and_nats_come_and_go(site: Site) -> None:
    await applied(site)
    planner = site.up.service("planner")
    planner.send_signal(signal.SIGSTOP)
    for number in range(1, 11):
        await plain_publish(site, number)
    planner.kill()
    await asyncio.to_thread(site.nats.kill)
    await asyncio.to_thread(site.nats.start)
    for number in range(11, 16):
        await plain_publish(site, number)

    async def all_started() -> bool:
        return all((await started(site, range(1, 16))).values())

    await until(all_started, "every trigger to start its run", 60)
    assert {len(runs) for runs in (await started(site, range(1, 16))).values()} == {1}


async def test_a_trigger_that_is_no_json_is_parked_and_the_next_one_starts_its_run(site: Site) -> None:
    await applied(site)
    plain = await nats.connect(site.nats.url)
    await plain.jetstream(timeout=10).publish("headrace.trigger.release", b"\x00 no json")
    await plain.close()
    await plain_publish(site, 20)

    async def both() -> bool:
        async with site.up.client() as client:
            doctor = await client.get("/doctor")
        return bool(doctor["parked"]) and all((await started(site, range(20, 21))).values())

    await until(both, "the parked trigger to be shown and the good one to start")


async def test_1000_runs_submitted_together_cost_fewer_than_200_appends(site: Site) -> None:
    async with site.up.client() as client:
        plan = (await client.record_plan(ADD))["digest"]
    bus = await JetStreamBus.connect(site.nats.url, await check(site.postgres.url), SystemClock())

    async def submit(number: int) -> Answer:
        key = f"together-{number}"
        body = CreateRun(plan_digest=plan, labels={"number": str(number)})
        actor = Actor(id="tok_test", name="test", roles=("operator",))
        command = Command(body=codec.raw(body), actor=actor, workspace="default", key=key)
        partition = ids.partition_for(LOG_PARTITIONS[LOG_RUNS], "default", key)
        data = site.keys.pack(COMMANDS, codec.encode(command))
        return msgspec.json.decode(await bus.command(LOG_RUNS, partition, data, timeout_s=30), type=Answer)

    async def appends() -> int:
        # An append is one transaction, whatever number of partitions it writes to.
        return int(
            (await site.rows("select count(distinct xmin::text) as n from headrace.chain where log = 'runs'"))[0]["n"]
        )

    before = await appends()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(submit(number)) for number in range(RUNS)]
    finally:
        await bus.close()
    answers = [task.result() for task in tasks]
    assert {answer.status for answer in answers} == {201}
    assert len({answer.stream_id for answer in answers}) == RUNS

    async def over() -> bool:
        done = await site.rows(
            "select count(*) as n from headrace.runs where plan_digest = $1 and status = 'succeeded'", plan
        )
        return bool(done[0]["n"] == RUNS)

    await until(over, "all runs to succeed", 60)
    assert await appends() - before < APPENDS_MAX
