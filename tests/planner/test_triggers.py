"""Trigger events start the runs of the workflows that declare them, each once."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from headrace import codec
from headrace.bus.memory import MemoryBus
from headrace.bus.port import Delivery
from headrace.clock import SystemClock
from headrace.errors import UnavailableError, ValidationError
from headrace.events.base import ErrorInfo
from headrace.keys import COMMANDS, Keys
from headrace.log.port import Parked
from headrace.messages import Answer, Command, CreateRun
from headrace.plans.model import Plan, canonical, digest
from headrace.vocabulary import IDEMPOTENCY_KEY_CHARS_MAX, LOG_PARTITIONS, LOG_RUNS
from headrace_planner.triggers.match import key, matches, read
from headrace_planner.triggers.router import TriggerRouter
from tests.planner.catalogue_kit import Shelf

KEYS = Keys(master=b"k" * 32)
CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "github",
    "type": "push",
    "data": {"action": "opened", "files": ["a.py"]},
}


def event(content: Any = None, *, name: str = "push", message_id: str = "", sequence: int = 7) -> Any:
    return read(name, json.dumps(content).encode(), message_id=message_id, sequence=sequence, at=1_000)


def workflow(name: str, *triggers: dict[str, Any], plan_digest: str | None = "sha256:p", **more: Any) -> dict[str, Any]:
    declared = [{"type": "event", **trigger} for trigger in triggers]
    given = {"name": name, "version": 1, "plan_digest": plan_digest, "problems": [], "triggers": declared}
    return given | {"id": f"wfl_{name}", "workspace": "default"} | more


def started(trigger: Any, *workflows: dict[str, Any]) -> list[str]:
    starts, refused = matches(trigger, list(workflows))
    assert not refused
    return [start.workflow["name"] for start in starts]


def test_a_workflow_is_started_by_the_events_it_declares_and_no_others() -> None:
    declared = workflow("a", {"event": "push"}), workflow("b", {"event": "pull"}), workflow("c")
    assert started(event({}), *declared) == ["a"]
    assert started(event({}, name="pull"), *declared) == ["b"]
    assert started(event({}, name="other"), *declared) == []
    scheduled = workflow("d", {"event": "push", "type": "schedule"})
    assert started(event({}), scheduled) == []


@pytest.mark.parametrize("content", [CLOUD_EVENT, CLOUD_EVENT["data"]])
def test_only_events_for_which_when_is_true_start_runs(content: Any) -> None:
    """Row 65."""
    assert started(event(content), workflow("a", {"event": "push", "when": "event.action == 'opened'"})) == ["a"]
    assert started(event(content), workflow("a", {"event": "push", "when": "event.action == 'closed'"})) == []


def test_an_event_without_what_when_asks_for_is_not_meant() -> None:
    assert started(event({"other": 1}), workflow("a", {"event": "push", "when": "event.action == 'opened'"})) == []


def test_a_condition_that_cannot_be_judged_is_refused_with_its_reason() -> None:
    starts, refused = matches(event({"n": "x"}), [workflow("a", {"event": "push", "when": "event.n + 1 > 2"})])
    assert starts == []
    assert refused[0].workflow == "a"
    assert "event.n + 1 > 2" in refused[0].reason


def test_what_lacks_a_part_of_a_cloud_event_is_plain_json_told_apart_by_its_message() -> None:
    for name in ("specversion", "id", "source", "type"):
        for lacking in (
            {**CLOUD_EVENT, name: ""},
            {part: value for part, value in CLOUD_EVENT.items() if part != name},
        ):
            assert event(lacking, message_id="m-1").identity == "m-1"
    assert event(CLOUD_EVENT, message_id="m-1").identity == "github e-1"


def test_the_cloud_event_itself_is_the_trigger() -> None:
    assert started(event(CLOUD_EVENT), workflow("a", {"event": "push", "when": "trigger.source in ['github']"})) == [
        "a"
    ]


def test_inputs_are_filled_from_the_event() -> None:
    inputs = {"files": "{{ event.files }}", "by": "from {{ trigger.source }}", "n": 3}
    starts, _ = matches(event(CLOUD_EVENT), [workflow("a", {"event": "push", "inputs": inputs})])
    assert starts[0].inputs == {"files": ["a.py"], "by": "from github", "n": 3}


def test_a_trigger_may_say_the_priority_of_its_runs() -> None:
    starts, _ = matches(event({}), [workflow("a", {"event": "push", "priority": 9}), workflow("b", {"event": "push"})])
    assert [start.priority for start in starts] == [9, None]


def test_two_declarations_that_both_mean_an_event_start_one_run() -> None:
    assert started(event({}), workflow("a", {"event": "push"}, {"event": "push", "when": "true"})) == ["a"]


def test_a_workflow_that_does_not_compile_any_more_is_refused_with_the_reason() -> None:
    broken = workflow("a", {"event": "push"}, plan_digest=None, problems=["unknown tool 'glob'"])
    _, refused = matches(event({}), [broken])
    assert "unknown tool 'glob'" in refused[0].reason


def test_what_tells_an_event_apart() -> None:
    assert event(CLOUD_EVENT, message_id="m").identity == "github e-1"
    assert event({"id": "x"}, message_id="m").identity == "m"
    assert event({"id": "x"}).identity == "1000-7"
    assert event(5).content == 5


def test_keys_differ_by_workflow_and_event_and_stay_short() -> None:
    assert key(event({}, message_id="m"), "a") == "trigger/a/m"
    long = {name: key(event({}, message_id="m" * 400), name) for name in ("a", "b")}
    assert len(set(long.values())) == 2
    assert max(map(len, long.values())) <= IDEMPOTENCY_KEY_CHARS_MAX


@pytest.mark.parametrize("data", [b"", b"not json", b"{", b"\xff\xfe", b"NaN"])
def test_what_is_no_json_is_no_event(data: bytes) -> None:
    with pytest.raises(ValidationError):
        read("push", data, message_id="", sequence=1, at=1)


class TriggerShelf(Shelf):
    """A log that keeps what is parked."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Parked] = []
        self.position = 1

    async def partitions(self) -> list[dict[str, Any]]:
        return [{"log": "catalogue", "partition": 0, "last_position": self.position}]

    async def park(self, parked: Parked) -> None:
        self.kept.append(parked)


class Owner:
    """The owner of all runs: remembers what it was asked, and answers what a test says."""

    def __init__(self) -> None:
        self.asked: list[Command] = []
        self.answer: Callable[[Command], Answer | None] = lambda _: Answer(status=201)

    def handle(self, data: bytes, reply: Callable[[bytes], None]) -> None:
        label, body = KEYS.unpack(data)
        assert label == COMMANDS
        command = msgspec.json.decode(body, type=Command)
        self.asked.append(command)
        answer = self.answer(command)
        if answer is not None:
            reply(codec.encode(answer))

    def creates(self) -> list[CreateRun]:
        return [msgspec.json.decode(bytes(command.body), type=CreateRun) for command in self.asked]


class World:
    def __init__(self, shelf: TriggerShelf, owner: Owner, router: TriggerRouter) -> None:
        self.shelf, self.owner, self.router = shelf, owner, router

    def declare(self, name: str, automation: str = "fully_auto", **trigger: Any) -> None:
        plan = Plan(name=name, kind="Workflow", steps=(), automation=automation)
        self.shelf.blobs[digest(plan)] = canonical(plan)
        row = workflow(name, {"event": "push", **trigger}, plan_digest=digest(plan))
        self.shelf.tables.setdefault("workflows", {})[row["id"]] = row
        self.shelf.position += 1

    async def publish(self, data: bytes, **more: Any) -> None:
        delivery: dict[str, Any] = {"data": data, "sequence": 7, "subject": "push", "message_id": "m1", "at": 5}
        await self.router.deliver(Delivery(**(delivery | more)))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock, shelf, owner = SystemClock(), TriggerShelf(), Owner()
    bus = MemoryBus(clock)
    for partition in range(LOG_PARTITIONS[LOG_RUNS]):
        await bus.serve_commands(LOG_RUNS, partition, owner.handle)
    yield World(shelf, owner, TriggerRouter(shelf, bus, KEYS, clock))  # type: ignore[arg-type]  # only a part of a log
    await bus.close()


async def test_an_event_creates_a_run_of_each_workflow_under_a_key_of_its_own(world: World) -> None:
    world.declare("a")
    world.declare("b", inputs={"n": "{{ event.n }}"})
    await world.publish(b'{"n": 4}')
    assert sorted(str(command.key) for command in world.owner.asked) == ["trigger/a/m1", "trigger/b/m1"]
    made = {create.workflow: create for create in world.owner.creates()}
    assert codec.loads(made["b"].inputs) == {"n": 4}
    assert codec.loads(made["a"].trigger) == {"n": 4}
    assert made["a"].labels == {"trigger": "push", "trigger_id": "m1"}
    assert world.owner.asked[0].actor.roles == ("operator",)
    assert world.shelf.kept == []


async def test_event_delivered_twice_asks_for_the_same_run(world: World) -> None:
    world.declare("a")
    await world.publish(b"{}")
    await world.publish(b"{}")
    first, second = world.owner.asked
    assert (first.key, bytes(first.body)) == (second.key, bytes(second.body))


async def test_a_repeat_after_the_workflow_moved_on_starts_nothing_and_is_settled(world: World) -> None:
    world.declare("a")
    error = ErrorInfo(type="validation_error", message="another body under the key")
    world.owner.answer = lambda _: Answer(status=422, error=error)
    await world.publish(b"{}")
    assert world.shelf.kept == []


async def test_what_is_no_json_is_kept_for_doctor_and_settled(world: World) -> None:
    world.declare("a")
    await world.publish(b"{ not json")
    (parked,) = world.shelf.kept
    assert parked.body == b"{ not json"
    assert "trigger push: not JSON" in parked.error
    assert world.owner.asked == []


async def test_a_manual_workflow_is_started_by_no_event(world: World) -> None:
    world.declare("a", automation="manual")
    await world.publish(b"{}")
    assert world.owner.asked == []
    assert world.shelf.kept == []


async def test_a_refused_run_is_kept_with_the_reason_and_the_others_start(world: World) -> None:
    world.declare("a")
    world.declare("b")
    error = ErrorInfo(type="validation_error", message="input n is missing")
    world.owner.answer = lambda command: (
        Answer(status=400, error=error) if str(command.key).startswith("trigger/a") else Answer(status=201)
    )
    await world.publish(b"{}")
    assert [parked.error for parked in world.shelf.kept] == ["trigger push: workflow a: input n is missing"]
    assert len(world.owner.asked) == 2


async def test_an_event_comes_again_while_the_owner_is_away(world: World) -> None:
    world.declare("a")
    error = ErrorInfo(type="unavailable", message="the partition moves")
    world.owner.answer = lambda _: Answer(status=503, error=error)
    with pytest.raises(UnavailableError, match="must come again"):
        await world.publish(b"{}")
    assert world.shelf.kept == []


async def test_an_event_waits_on_the_bus_while_its_workspace_has_too_many_runs(world: World) -> None:
    world.declare("a")
    error = ErrorInfo(type="rate_limited", message="too many unfinished runs")
    world.owner.answer = lambda _: Answer(status=429, error=error)
    with pytest.raises(UnavailableError, match=r"must come again.*too many unfinished runs"):
        await world.publish(b"{}")
    assert world.shelf.kept == []


async def test_a_plan_that_is_gone_is_kept_as_a_refusal_and_no_crash_loop(world: World) -> None:
    world.declare("a")
    world.shelf.blobs.clear()
    await world.publish(b"{}")
    assert "there is no plan" in world.shelf.kept[0].error


async def test_a_workflow_applied_just_now_is_known_and_others_are_not_read_again(world: World) -> None:
    world.declare("a")
    await world.publish(b"{}")
    await world.publish(b"{}", message_id="m2")
    assert world.shelf.reads == 1
    world.declare("b")
    await world.publish(b"{}", message_id="m3")
    assert [create.workflow for create in world.owner.creates()] == ["a", "a", "a", "b"]
