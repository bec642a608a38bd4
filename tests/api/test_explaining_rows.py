"""Why a run is not moving, said of rows and beats by hand: each sentence is true of them, and no step is spoken of twice."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from headrace import codec
from headrace.keys import POOL, Keys
from headrace.plans.model import GateStep, Plan
from headrace.testing.virtual import VirtualClock, in_virtual_time
from headrace.wire import Beat, Blocked, Holding
from headrace_api.explaining import explain
from headrace_api.presence import Presence
from tests.planner.runs_kit import READ, call, plan, step

KEYS = Keys(master=b"k" * 32)
RUN = "run_1"
DOCTOR = "it is running and waits for nothing that is recorded"
ONE = plan(call("one"))
NAMED_AT = "1970-01-01T00:00:01.000Z"


def row(status: str = "running", *waiting: Mapping[str, Any], error: tuple[str, str] | None = None, **more: Any) -> Any:
    kind, message = error or (None, None)
    detail = {"waiting": list(waiting), **more.pop("detail", {})}
    known = {"id": RUN, "status": status, "requester_name": "ann", "error_type": kind, "error_message": message}
    return {**known, "cancel_requested": False, **more, "detail": detail}


def at(name: str, status: str = "running", **more: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("worker", "items_total", "items_done", "detail"))
    return {**empty, "step": name, "kind": "tool", "status": status, "attempt": 1, **more}


def held(number: int, name: str, *, begun: bool = True, **more: Any) -> Holding:
    return Holding(
        attempt_id=f"att_{number}", tool="read", since=1_000 + number, run_id=RUN, step=name, begun=begun, **more
    )


class Place:
    """What workers said, and what is told of a run then."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.presence = Presence(self.clock, KEYS)

    def beat(self, worker: str, *holding: Holding, pools: tuple[str, ...] = ("runner",), **more: Any) -> None:
        told = Beat(worker=worker, service="s", host="h", pools=pools, holding=holding, **{"slots": 2, **more})
        self.presence.deliver(KEYS.pack(f"{POOL}runner", codec.encode(told)))

    def told(
        self, run: Any, *steps: dict[str, Any], of: Plan | None = ONE
    ) -> list[tuple[str | None, str | None, str, str]]:
        found = explain(run, steps, of, self.presence, {})
        return [(each["step"], each["waiting_for"], each["message"], each["remedy"]) for each in found]

    def messages(self, run: Any, *steps: dict[str, Any], of: Plan | None = ONE) -> list[str]:
        return [message for _, _, message, _ in self.told(run, *steps, of=of)]


@pytest.mark.parametrize(
    ("run", "message", "remedy"),
    [
        (row("succeeded"), "it is over: succeeded", "nothing to do"),
        (
            row("failed", error=("upstream_error", "not today")),
            "it is over: failed (upstream_error: not today)",
            "again: `headrace runs retry run_1`",
        ),
        (
            row("cancelled", error=("cancelled", "by ann")),
            "it is over: cancelled (by ann)",
            "again: `headrace runs retry run_1`",
        ),
    ],
)
@in_virtual_time
async def test_a_run_that_is_over_says_how_and_offers_another_unless_it_succeeded(
    run: Any, message: str, remedy: str
) -> None:
    assert Place().told(run, at("one")) == [(None, None, message, remedy)]


@in_virtual_time
async def test_what_may_have_happened_is_named_at_the_end_with_the_step_that_is_meant() -> None:
    run = row("failed", error=("timeout", "too long"), detail={"unknown_outcomes": ["put[3]", "put#2[4]"]})
    _, (name, _, message, remedy) = Place().told(run)
    assert name == "put"
    assert message.startswith("whether put[3], put#2[4] happened is unknown")
    assert "`headrace runs effects run_1`" in remedy


@in_virtual_time
async def test_steps_that_run_say_how_far_they_are_and_where() -> None:
    steps = [
        at("one", "succeeded"),
        at("many", items_total=10, items_done=3),
        at("two", attempt=2, worker="wrk_1"),
        at("three"),
        at("four", "queued"),
    ]
    assert Place().told(row(), *steps, of=None) == [
        ("many", None, "step many runs: 3 of 10 items are over", "nothing to do"),
        ("two", None, "step two runs, attempt 2, at wrk_1", "nothing to do"),
        ("three", None, "step three runs, attempt 1", "nothing to do"),
    ]


@in_virtual_time
async def test_a_step_that_waits_is_not_said_to_run_as_well() -> None:
    waits = {"for": "timer", "step": "one", "message": "", "until": 1_000}
    assert Place().told(row("waiting", waits), at("one"), at("two"), of=None) == [
        ("one", "timer", f"step one waits until {NAMED_AT}", "nothing to do: it goes on at that time"),
        ("two", None, "step two runs, attempt 1", "nothing to do"),
    ]


@in_virtual_time
async def test_a_run_of_which_nothing_is_known_sends_to_the_doctor() -> None:
    place = Place()
    assert place.told(row()) == [
        ("one", None, place.messages(row())[0], "start one: `headrace serve runner`"),
    ]
    place.beat("wrk_1")
    assert place.told(row(), at("one", "succeeded")) == [(None, None, DOCTOR, "`headrace doctor`")]


@in_virtual_time
async def test_an_attempt_in_hands_is_told_with_its_progress_or_what_keeps_it() -> None:
    place = Place()
    place.beat("wrk_1", held(0, "one", progress=0.426, message="nearly half"))
    assert place.messages(row(), at("one")) == [
        f"step one is performed by worker wrk_1 since {NAMED_AT}: 43% nearly half"
    ]
    place.beat("wrk_1", held(0, "one"))
    assert place.messages(row(), at("one")) == [f"step one is performed by worker wrk_1 since {NAMED_AT}"]
    place.beat("wrk_1", held(0, "one", begun=False))
    assert place.messages(row(), at("one", "queued")) == [
        f"step one waits since {NAMED_AT} in worker wrk_1, whose 2 slots are taken"
    ]


@in_virtual_time
async def test_of_many_attempts_of_a_step_the_one_that_tells_most_is_told_and_how_many_there_are() -> None:
    place, steps = Place(), [at("one", items_total=9, items_done=1)]
    place.beat("wrk_1", held(0, "one", begun=False), held(5, "one"), held(4, "one", progress=0.5))
    assert place.messages(row(), *steps) == [
        "step one is performed by worker wrk_1 since 1970-01-01T00:00:01.004Z: 50% (3 attempts in all)"
    ]
    place.beat("wrk_1", held(0, "one", begun=False), held(1, "one", begun=False))
    assert place.messages(row(), *steps) == [
        f"step one waits since {NAMED_AT} in worker wrk_1, whose 2 slots are taken (2 attempts in all)"
    ]
    place.beat("wrk_2", held(7, "one"), blocked=Blocked(since=1_000, tool="look", attempt_id="att_7"))
    (_, _, message, remedy), *others = place.told(row(), *steps)
    assert message == (
        f"step one is at worker wrk_2, which is blocked since {NAMED_AT} by the tool look (attempt att_7): "
        "it lives, so nothing is lost (3 attempts in all)"
    )
    assert "`headrace workers rescue wrk_2 --force`" in remedy
    assert others == []


@in_virtual_time
async def test_a_worker_that_is_silent_is_told_unless_its_step_has_a_reason_of_its_own() -> None:
    place = Place()
    place.beat("wrk_1", held(0, "one"))
    await place.clock.sleep(10.5)
    (_, _, message, remedy), *_ = place.told(row(), at("one"), of=None)
    assert message == "step one is with worker wrk_1, of which nothing was heard since 2027-01-15T08:00:00.000Z"
    assert "`headrace workers rescue wrk_1`" in remedy
    waits = {"for": "retry", "step": "one", "message": "attempt 2 of 3", "until": 1_000}
    assert [name for _, name, _, _ in place.told(row("waiting", waits), at("one"), of=None)] == ["retry"]


@in_virtual_time
async def test_of_a_step_that_people_must_speak_of_nothing_else_is_said_but_items_of_a_map_go_on() -> None:
    place, asked = Place(), {"for": "input", "step": "one", "message": "did it happen?"}
    assert place.messages(row("waiting", asked), at("one")) == ["did it happen?"], "whoever serves its pool"
    place.beat("wrk_1", held(0, "one"))
    assert place.messages(row("waiting", asked), at("one")) == ["did it happen?"]
    mapped = at("one", items_total=3, items_done=1)
    assert place.messages(row("waiting", asked), mapped) == [
        "did it happen?",
        f"step one is performed by worker wrk_1 since {NAMED_AT}",
    ]
    queued = {"for": "timer", "step": "two", "message": "", "until": 1_000}
    place.beat("wrk_1", held(0, "two"))
    assert len(place.messages(row("waiting", queued), at("one", "succeeded"), at("two"), of=None)) == 2


@in_virtual_time
async def test_what_was_tried_names_the_last_error_but_for_a_map() -> None:
    waits = {"for": "retry", "step": "one", "message": "attempt 3 of 4", "until": 1_000}
    errors = [{"error": {"type": "timeout", "message": "first"}}, {"error": {"type": "bad", "message": "second"}}]
    failed: dict[str, Any] = {"detail": {"attempts": errors}}
    place = Place()
    assert place.messages(row("waiting", waits), at("one", **failed), of=None)[0] == (
        f"step one failed (bad: second) and is tried again at {NAMED_AT} (attempt 3 of 4)"
    )
    for plain in (at("one", items_total=2, items_done=0, **failed), at("one"), at("other", **failed)):
        assert place.messages(row("waiting", waits), plain, of=None)[0].startswith("step one failed and is tried again")
    paused = {"for": "resume", "step": None, "message": "paused by ann"}
    assert place.told(row("waiting", paused, waits), of=None)[1][2:] == (
        f"step one failed and is tried again when the run goes on, not before {NAMED_AT} (attempt 3 of 4)",
        "nothing to do but to resume it",
    )


@in_virtual_time
async def test_a_cancel_and_what_is_undone_are_told_with_who_ends_them() -> None:
    place, asked = Place(), {"for": "input", "step": "one", "message": "did it happen?"}
    cancelled = row("running", cancel_requested=True)
    assert place.told(cancelled, at("one"), of=None)[0][2:] == (
        "a cancel was asked for: attempts under way are being stopped",
        "nothing to do: it ends within seconds; `headrace workers` shows them",
    )
    assert place.told(row("waiting", asked, cancel_requested=True), at("one"), of=None)[1][2:] == (
        "a cancel was asked for: it ends once that is known",
        "nothing to do but to say so",
    )
    undone = [at("one", "succeeded"), at("one.compensate")]
    ended = "nothing to do: it ends by itself once all is undone"
    assert place.told(row(), *undone, of=None) == [
        ("one.compensate", None, "what its steps did is being undone, one now", ended)
    ]
    limited = row(cancel_requested=True, detail={"undoing_until": 1_000})
    assert place.told(limited, *undone, of=None) == [
        (
            "one.compensate",
            None,
            "a cancel was asked for; what its steps did is being undone, one now",
            f"{ended}, or then",
        )
    ]
    failed = row(detail={"undoing_until": 1_000})
    said = "it failed: attempts under way are being stopped, then what its steps did is undone"
    assert place.told(failed, at("one"), of=None)[0] == (None, None, said, "nothing to do: it ends by itself")
    assert place.told(row("waiting", asked, detail={"undoing_until": 1_000}), at("one"), of=None)[1][2:] == (
        said,
        "nothing to do but to say so",
    )
    people = row("waiting", {**asked, "step": "one.compensate"})
    assert place.told(people, *undone, of=None)[1][3] == "nothing to do but to say so"
    assert len(place.told(cancelled, at("one.compensate", "succeeded"), of=None)) == 1


@in_virtual_time
async def test_pools_that_nobody_serves_are_named_once_with_what_starts_a_worker() -> None:
    pins = {
        "mine": msgspec.structs.replace(READ, pool="mine"),
        "gate.expression": msgspec.structs.replace(READ, pool="gates"),
        "read": READ,
    }
    check = step("check", GateStep(gate="expression", config={}), kind="gate")
    steps = (call("one", tool="mine"), call("two", tool="mine"), check, call("last", "one"))
    place, whole = Place(), msgspec.structs.replace(plan(*steps), tools=pins)
    place.beat("wrk_1", draining=True)
    heard = "none was heard since this api began to listen at 2027-01-15T08:00:00.000Z"
    assert place.told(row(), at("one", "queued"), of=whole) == [
        ("one", None, f"no worker serves the pool 'mine' ({heard})", "start one: `headrace worker mine.py`"),
        ("check", None, f"no worker serves the pool 'gates' ({heard})", "start one: `headrace serve gatekeeper`"),
    ]
    done = [at("one", "succeeded"), at("two", "failed"), at("check", "succeeded")]
    (message, remedy) = place.told(row(), *done, of=whole)[0][2:]
    assert message == "no worker takes work of the pool 'runner': worker wrk_1 drains"
    assert remedy == "`headrace workers resume wrk_1`; or start one: `headrace serve runner`"
    place.beat("wrk_2", draining=True)
    place.beat("wrk_3", draining=True)
    assert place.messages(row(), *done, of=whole) == [
        "no worker takes work of the pool 'runner': worker wrk_1 and 2 more drain"
    ]
    place.beat("wrk_3")
    assert place.messages(row(), *done, of=whole) == [DOCTOR]
    place.beat("wrk_3", leaving=True)
    place.beat("wrk_2", leaving=True)
    place.beat("wrk_1", leaving=True)
    assert place.messages(row(), *done, of=whole) == [
        "no worker serves the pool 'runner' (none alive since 2027-01-15T08:00:00.000Z)"
    ]


@in_virtual_time
async def test_while_steps_are_undone_only_what_undoes_them_is_missed() -> None:
    mine = msgspec.structs.replace(READ, pool="mine")
    undo = call("one.compensate", tool="mine", compensates="one")
    whole = msgspec.structs.replace(
        plan(call("one"), call("two"), compensations=(undo,)), tools={"read": READ, "mine": mine}
    )
    place, began = Place(), at("one", "succeeded")
    assert [name for name, *_ in place.told(row(), began, of=whole)] == ["two"]
    undoing = place.told(row(), began, at("one.compensate", "queued"), of=whole)
    assert [name for name, *_ in undoing] == ["one.compensate"] * 2
    assert "the pool 'mine'" in undoing[1][2]


@in_virtual_time
async def test_a_pool_that_only_blocked_workers_serve_is_told_with_whom() -> None:
    place, blocked = Place(), Blocked(since=1_000, tool="look", attempt_id="att_9")
    place.beat("wrk_1", blocked=blocked)
    ((_, _, message, remedy),) = place.told(row(), at("one", "queued"))
    assert message == (
        "step one waits in line for the pool 'runner', which only blocked workers serve: worker wrk_1, "
        f"blocked since {NAMED_AT} by the tool look (attempt att_9)"
    )
    assert "when the worker goes on" in remedy
    place.beat("wrk_2", blocked=blocked)
    assert place.messages(row(), at("one", "queued"))[0].endswith("; all 2 of them are")
    place.beat("wrk_2")
    assert (
        "was handed to the pool 'runner' (2 workers, 0 of 4 slots taken)"
        in place.messages(row(), at("one", "queued"))[0]
    )


@in_virtual_time
async def test_a_pool_whose_only_slot_is_taken_says_so() -> None:
    place = Place()
    place.beat("wrk_1", msgspec.structs.replace(held(0, "x"), run_id="run_2"), slots=1)
    assert place.messages(row(), at("one", "queued")) == [
        "step one waits in line for the pool 'runner': the only slot of its only worker is taken"
    ]
    place.beat("wrk_1", msgspec.structs.replace(held(0, "x"), run_id="run_2"), slots=2)
    assert "1 of 2 slots taken" in place.messages(row(), at("one", "queued"))[0]
