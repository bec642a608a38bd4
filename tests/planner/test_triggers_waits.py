"""A trigger's event is brought to every run that waits for its name before it is settled."""

from typing import Any

import msgspec
import pytest

from headrace.errors import UnavailableError
from headrace.events.base import ErrorInfo
from headrace.messages import Answer
from headrace.steering import DeliverEvent
from tests.planner.test_triggers import World, world

__all__ = ["world"]
RUN_ONE, RUN_TWO = "run_01m0jr7f5ze6xkg9k2c04h3702", "run_01m0jr7f5ze6xkg9k2c04h3703"


def waits(world: World, run_id: str, step: str = "w", *, name: str = "push", open: bool = True) -> None:
    """Let a run wait, as its row says."""
    row: dict[str, Any] = {"id": f"{run_id}/{step}", "run_id": run_id, "step": step, "workspace": "ops"}
    row |= {"name": name, "open": open}
    world.shelf.tables.setdefault("waits", {})[row["id"]] = row


def told(world: World) -> list[tuple[str | None, str, int]]:
    found = []
    for command in world.owner.asked:
        if b'"deliver_event"' in bytes(command.body):
            event = msgspec.json.decode(command.body, type=DeliverEvent)
            found.append((command.stream_id, event.event_id, event.at))
    return sorted(found, key=str)


async def test_an_event_is_brought_once_to_each_run_that_waits_for_its_name(world: World) -> None:
    waits(world, RUN_ONE)
    waits(world, RUN_ONE, "other")
    waits(world, RUN_TWO)
    waits(world, RUN_TWO, "third", name="pull")
    await world.publish(b"{}")
    assert told(world) == [(RUN_ONE, "m1", 5), (RUN_TWO, "m1", 5)]
    assert {command.workspace for command in world.owner.asked} == {"ops"}
    assert world.shelf.kept == []


async def test_a_run_that_waits_no_more_is_not_asked(world: World) -> None:
    waits(world, RUN_ONE, open=False)
    await world.publish(b"{}")
    assert world.owner.asked == []


async def test_an_event_comes_again_when_a_run_could_not_be_reached(world: World) -> None:
    waits(world, RUN_ONE)
    world.owner.answer = lambda _: Answer(status=503, error=ErrorInfo(type="unavailable", message="moving house"))
    with pytest.raises(UnavailableError, match="must come again: moving house"):
        await world.publish(b"{}")


async def test_what_a_run_cannot_judge_is_kept_for_doctor_and_settled(world: World) -> None:
    waits(world, RUN_ONE)
    refusal = ErrorInfo(type="expression_error", message=f"step 'w' of run {RUN_ONE}: no such overload")
    world.owner.answer = lambda _: Answer(status=500, error=refusal)
    await world.publish(b"{}")
    (parked,) = world.shelf.kept
    assert f"trigger push: step 'w' of run {RUN_ONE}: no such overload" in parked.error


async def test_a_run_that_was_purged_meanwhile_keeps_nothing_up(world: World) -> None:
    waits(world, RUN_ONE)
    world.owner.answer = lambda _: Answer(status=404, error=ErrorInfo(type="not_found", message="there is no run"))
    await world.publish(b"{}")
    assert world.shelf.kept == []


async def test_who_waits_is_read_before_runs_are_started(world: World) -> None:
    world.declare("a")
    seen: list[str] = []

    def answer(command: object) -> Answer:
        body = bytes(command.body)  # type: ignore[attr-defined]  # a command
        seen.append("create" if b'"create_run"' in body else "deliver")
        waits(world, RUN_ONE)  # what is started by an event may wait for the next one of its name
        return Answer(status=201)

    world.owner.answer = answer
    await world.publish(b"{}")
    assert seen == ["create"]
