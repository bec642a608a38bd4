"""Runs and the keys that they share: standing in line, making room, rate limits; asked again, given back, healed."""

from typing import Any

import msgspec

from headrace import ids
from headrace.codec import loads, raw
from headrace.decider import Dispatch
from headrace.events.base import RateLimit
from headrace.events.runs import Parent
from headrace.messages import CancelRun, StartRun, Wake
from headrace.plans.model import CallStep, Concurrency, InputField, Retry
from headrace.steering import (
    ConfirmPermit,
    GrantPermit,
    NotePermitQueued,
    NotePermitReceived,
    PauseRun,
    RefusePermit,
    ReleasePermit,
    RequestPermit,
    ResumeRun,
    YieldPermit,
)
from tests.planner.runs_kit import PINS, READ, Sim, call, plan, step

KEY = Concurrency(key="{{ inputs.env }}")
FLOW = ids.flow_key("default", "concurrency", "prod")
LIMITED = msgspec.structs.replace(READ, rate_limit=RateLimit(limit=10, period_s=60))
OTHER = ids.make(ids.RUN, 0, b"another", 1)


def keyed(parent: Parent | None = None, **more: Any) -> Sim:
    concurrency = msgspec.structs.replace(KEY, **more)
    inputs = {"env": InputField(type="string")}
    return Sim(plan(call("a"), call("b", "a"), inputs=inputs, concurrency=concurrency)).create(
        {"env": "prod"}, parent=parent
    )


def limited(*steps: Any, **more: Any) -> Sim:
    made = msgspec.structs.replace(plan(*steps, **more), tools={**PINS, "read": LIMITED})
    return Sim(made).create()


def requests(sim: Sim) -> list[RequestPermit]:
    return [tell.command for tell in sim.told if isinstance(tell.command, RequestPermit)]


def asked(sim: Sim) -> RequestPermit:
    return requests(sim)[-1]


def grant(sim: Sim, count: int = 1) -> Sim:
    tell = next(tell for tell in reversed(sim.told) if isinstance(tell.command, RequestPermit))
    return sim.do(GrantPermit(permit_id=asked(sim).permit_id, count=count, flow_id=tell.stream_id))


def answers(sim: Sim) -> list[Any]:
    return [tell.command for tell in sim.told if isinstance(tell.command, NotePermitReceived | ReleasePermit)]


# --- concurrency -------------------------------------------------------------------------------------------------


def test_nothing_of_a_run_begins_before_its_key_lets_it() -> None:
    sim = keyed()
    assert sim.status == "queued"
    assert sim.orders == {}
    (tell,) = sim.told
    assert (tell.log, tell.stream_id) == ("flow", FLOW)
    request = asked(sim)
    assert (request.run_id, request.kind, request.key, request.limit) == (sim.id, "concurrency", "prod", 1)
    grant(sim)
    assert sim.status == "running"
    assert list(sim.orders) == ["a"]
    assert answers(sim) == [NotePermitReceived(permit_id=request.permit_id)]


def test_row_60_a_run_in_line_is_queued_and_says_for_which_key_and_who_holds_it() -> None:
    sim = keyed()
    sim.do(NotePermitQueued(permit_id=asked(sim).permit_id, held_by=(OTHER,)))
    row = sim.row()
    assert row["status"] == "queued"
    (wait,) = row["detail"]["waiting"]
    assert (wait["for"], wait["held_by"], wait["flow_id"]) == ("concurrency", [OTHER], FLOW)
    assert wait["message"] == f"the concurrency key 'prod' (one run at a time), held by run {OTHER}"
    assert wait["limit"] == 1
    (reason,) = sim.room.explain(sim.run)
    assert OTHER in reason.message
    assert f"headrace runs cancel {OTHER}" in reason.remedy


def test_the_request_is_repeated_until_the_key_has_it() -> None:
    sim = keyed()
    assert sim.row()["busy"]
    assert sim.room.wake_at(sim.run) == sim.now + 2_000
    sim.later(2).do(Wake())
    assert len(requests(sim)) == 2
    assert [tell.command for tell in sim.room.outstanding(sim.run, sim.now)] == [requests(sim)[0]]  # type: ignore[union-attr]  # tells only
    sim.do(NotePermitQueued(permit_id=asked(sim).permit_id, held_by=(OTHER,)))
    assert sim.made() == ["permit.queued"]
    sim.do(NotePermitQueued(permit_id=asked(sim).permit_id, held_by=(OTHER,)))
    assert sim.made() == []
    assert not sim.row()["busy"]
    assert sim.room.wake_at(sim.run) is None


def test_a_permit_told_twice_is_confirmed_twice_and_counts_once() -> None:
    sim = grant(keyed())
    grant(sim)
    assert sim.made() == []
    assert len(answers(sim)) == 2


def test_a_run_that_is_over_gives_its_key_back_and_again_when_asked() -> None:
    sim = grant(keyed()).report("a").report("b")
    permit = asked(sim).permit_id
    assert sim.status == "succeeded"
    assert answers(sim)[-1] == ReleasePermit(permit_id=permit)
    for word in (
        ConfirmPermit(permit_id=permit, flow_id=FLOW),
        GrantPermit(permit_id=permit, flow_id=FLOW),
        YieldPermit(permit_id=permit, for_run=OTHER, flow_id=FLOW),
        NotePermitQueued(permit_id=permit),
    ):
        before = len(answers(sim))
        sim.do(word)
        assert sim.made() == []
        assert answers(sim)[before:] == [ReleasePermit(permit_id=permit)]
        assert sim.told[-1].stream_id == FLOW


def test_a_child_does_not_wait_for_a_key_that_its_own_waiting_parent_holds() -> None:
    sim = keyed(parent=Parent(run_id=OTHER, step="child"))
    sim.do(NotePermitQueued(permit_id=asked(sim).permit_id, held_by=(OTHER,)))
    assert sim.status == "failed"
    assert sim.why().endswith(f"held by {OTHER}: its parent, which waits for it")
    assert ReleasePermit(permit_id=asked(sim).permit_id) in answers(sim)
    behind = keyed(parent=Parent(run_id=OTHER, step="child"))
    assert behind.do(NotePermitQueued(permit_id=asked(behind).permit_id)).made() == ["permit.queued"]


def test_a_run_that_goes_on_confirms_that_it_holds_its_key() -> None:
    sim = grant(keyed())
    sim.do(ConfirmPermit(permit_id=asked(sim).permit_id, flow_id=FLOW))
    assert answers(sim)[-1] == NotePermitReceived(permit_id=asked(sim).permit_id)


def test_a_run_that_nobody_knows_any_more_holds_no_key() -> None:
    sim = Sim(plan(call("a")))
    sim.do(ConfirmPermit(permit_id="prm_x", flow_id=FLOW))
    assert not sim.run.exists
    assert answers(sim) == [ReleasePermit(permit_id="prm_x")]
    sim.do(YieldPermit(permit_id="prm_y", for_run=OTHER, flow_id=FLOW))
    assert answers(sim)[-1] == ReleasePermit(permit_id="prm_y")


def test_a_cancel_in_line_ends_the_run_at_once_and_leaves_the_line() -> None:
    sim = keyed().do(CancelRun(reason="no"))
    assert sim.status == "cancelled"
    assert answers(sim) == [ReleasePermit(permit_id=asked(sim).permit_id)]
    assert (sim.room.wake_at(sim.run), list(sim.room.outstanding(sim.run, sim.now))) == (None, [])


def test_on_conflict_reject_fails_the_run_and_names_the_holder() -> None:
    sim = keyed(on_conflict="reject")
    sim.do(RefusePermit(permit_id=asked(sim).permit_id, held_by=(OTHER,)))
    assert sim.made() == ["permit.refused", "run.failed"]
    error = sim.run.data.error
    assert error is not None
    assert error.type == "concurrency_limit"
    assert OTHER in error.message
    assert error.details["held_by"] == [OTHER]


def test_on_conflict_replace_cancels_the_holder_and_says_by_which_run() -> None:
    sim = grant(keyed())
    sim.do(YieldPermit(permit_id=asked(sim).permit_id, for_run=OTHER, flow_id=FLOW))
    assert sim.row()["cancel_requested"]
    sim.do(YieldPermit(permit_id=asked(sim).permit_id, for_run=OTHER, flow_id=FLOW))
    assert sim.made() == []
    sim.report("a", status="cancelled")
    assert sim.status == "cancelled"
    assert sim.why() == f"replaced by run {OTHER}, which has the same concurrency key 'prod'"
    assert answers(sim)[-1] == ReleasePermit(permit_id=asked(sim).permit_id)


def test_a_run_in_line_that_is_replaced_is_cancelled_at_once() -> None:
    sim = keyed()
    sim.do(YieldPermit(permit_id=asked(sim).permit_id, for_run=OTHER, flow_id=FLOW))
    assert sim.status == "cancelled"


def test_a_key_may_be_any_value_and_null_means_none() -> None:
    composed = Sim(plan(call("a"), concurrency=Concurrency(key={"n": 1, "who": "{{ run.requester }}"}))).create()
    assert asked(composed).key == '{"n":1,"who":"ann"}'
    free = Sim(plan(call("a"), concurrency=Concurrency(key=None))).create()
    assert free.told == []
    assert list(free.orders) == ["a"]


def test_a_key_that_cannot_be_made_fails_the_run() -> None:
    broken = Sim(plan(call("a"), concurrency=Concurrency(key="{{ 1 / 0 }}"))).create()
    assert broken.status == "failed"
    empty = Sim(plan(call("a"), concurrency=Concurrency(key="  "))).create()
    assert "1 to 256 characters" in empty.why()
    long = Sim(plan(call("a"), concurrency=Concurrency(key="k" * 257))).create()
    assert "1 to 256 characters, and this run's has 257" in long.why()


def test_a_run_that_a_person_starts_asks_for_its_key_only_then() -> None:
    sim = Sim(plan(call("a"), automation="human_approval", concurrency=Concurrency(key="k"))).create()
    assert (sim.status, sim.told) == ("waiting", [])
    sim.do(StartRun())
    assert sim.status == "queued"
    assert asked(sim).key == "k"
    grant(sim)
    assert sim.status == "running"
    assert list(sim.orders) == ["a"]
    assert sim.names.count("run.started") == 1


def test_a_paused_run_in_line_waits_and_stands_in_line_again() -> None:
    sim = keyed().do(PauseRun())
    assert sim.status == "waiting"
    sim.do(ResumeRun())
    assert sim.status == "queued"
    sim.do(PauseRun())
    grant(sim)
    assert sim.orders == {}
    sim.do(ResumeRun())
    assert list(sim.orders) == ["a"]
    assert sim.status == "running"


def test_the_requests_of_a_run_carry_its_priority_and_so_do_its_orders() -> None:
    sim = Sim(plan(call("a"), priority=7, concurrency=Concurrency(key="k"))).create()
    assert asked(sim).priority == 7
    higher = Sim(plan(call("a"), priority=7)).create(priority=50)
    assert higher.run.queued.priority == 50
    (dispatch,) = higher.room.outstanding(higher.run, higher.now)
    assert isinstance(dispatch, Dispatch)
    assert dispatch.priority == 50
    assert "-100 to 100" in Sim(plan(call("a"))).create(priority=101).refused()


# --- rate limits -------------------------------------------------------------------------------------------------


def test_an_attempt_waits_for_its_rate_limit_and_begins_when_it_may() -> None:
    sim = limited(call("a"))
    assert sim.orders == {}
    assert (sim.status, sim.step_status("a")) == ("waiting", "waiting")
    request = asked(sim)
    assert (request.kind, request.key, request.limit, request.period_ms) == ("rate_limit", "read", 10, 60_000)
    sim.do(NotePermitQueued(permit_id=request.permit_id, until=sim.now + 5_000))
    row = sim.row()
    assert row["waiting_for"] == "rate_limit"
    (wait,) = row["detail"]["waiting"]
    assert wait["until"] == sim.now + 5_000
    assert wait["message"] == "1 attempt: the rate limit of read (10 in 60 s)"
    (reason,) = sim.room.explain(sim.run)
    assert (reason.step, reason.until) == ("a", sim.now + 5_000)
    assert reason.remedy == "nothing to do: it goes on when the rate limit has room"
    grant(sim)
    assert list(sim.orders) == ["a"]
    assert (sim.status, sim.row("steps", step="a")["status"]) == ("running", "queued")
    sim.report("a")
    assert sim.status == "succeeded"


def test_a_run_that_works_goes_on_working_while_one_of_its_steps_waits_for_its_rate_limit() -> None:
    limit = msgspec.structs.replace(
        plan(call("a", tool="gate.expression"), call("b", "a")), tools={**PINS, "read": LIMITED}
    )
    sim = Sim(limit).create().report("a", 1)
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "rate_limit")
    assert sim.names.count("run.started") == 1


def test_a_map_asks_for_some_of_its_attempts_and_for_the_next_when_these_begin() -> None:
    sim = limited(call("m", items=list(range(300))))
    assert asked(sim).count == 10
    assert len(requests(sim)) == 1
    grant(sim, 4)
    assert len(sim.orders) == 4
    assert len(requests(sim)) == 1
    grant(sim, 10)
    assert len(sim.orders) == 10
    assert len(requests(sim)) == 2
    assert asked(sim).permit_id != requests(sim)[0].permit_id
    first = requests(sim)[0].permit_id
    assert answers(sim) == [NotePermitReceived(permit_id=first, count=4), ReleasePermit(permit_id=first)]


def test_a_wide_rate_limit_is_asked_for_so_many_at_once_at_most() -> None:
    wide = msgspec.structs.replace(READ, rate_limit=RateLimit(limit=5_000, period_s=1))
    made = msgspec.structs.replace(plan(call("m", items=list(range(300)))), tools={**PINS, "read": wide})
    assert asked(Sim(made).create()).count == 64


def test_every_try_asks_anew() -> None:
    sim = grant(limited(call("a", retry=Retry(max_attempts=2, jitter=0.0))))
    sim.fail("a")
    assert len(requests(sim)) == 1
    sim.later(1).do(Wake())
    assert sim.step_status("a") == "waiting"
    assert len(requests(sim)) == 2
    grant(sim).report("a")
    assert sim.status == "succeeded"


def test_what_a_paused_run_is_let_do_it_does_not_and_asks_again() -> None:
    sim = limited(call("a")).do(PauseRun())
    grant(sim)
    assert sim.orders == {}
    assert len(requests(sim)) == 1, "while it is paused it asks for nothing"
    sim.do(ResumeRun())
    assert len(requests(sim)) == 2
    grant(sim)
    assert list(sim.orders) == ["a"]


def test_a_cancelled_run_leaves_the_line_of_its_rate_limit() -> None:
    sim = limited(call("a")).do(CancelRun())
    assert sim.status == "cancelled"
    assert sim.run.data.limited == {}
    assert answers(sim) == [ReleasePermit(permit_id=asked(sim).permit_id)]


def test_a_repeat_of_a_used_up_permit_is_answered_so_that_the_key_forgets_it() -> None:
    sim = grant(limited(call("a")))
    grant(sim)
    assert sim.made() == []
    assert answers(sim)[-1] == ReleasePermit(permit_id=asked(sim).permit_id)


def test_waiting_for_a_rate_limit_does_not_count_against_the_run_or_the_step() -> None:
    sim = limited(call("a", step_timeout_s=10.0), timeout_s=20.0)
    sim.later(1_000).do(Wake())
    assert sim.status == "waiting"
    grant(sim)
    sim.later(5).report("a")
    assert sim.status == "succeeded"


def test_a_connections_own_setting_stands_for_everything_done_over_it() -> None:
    pin = msgspec.structs.replace(LIMITED, requires_connection="github")
    body = CallStep(tool="read")
    made = plan(step("a", body, kind="tool"), step("b", CallStep(tool="read", connection="work"), kind="tool"))
    made = msgspec.structs.replace(made, tools={**PINS, "read": pin})
    connections = {
        "github": {"name": "github", "settings": {}, "secrets": {}},
        "github/work": {"name": "work", "settings": {"rate_limit": "2/1s"}, "secrets": {}},
    }
    bare = Sim(msgspec.structs.replace(made, tools={"read": msgspec.structs.replace(pin, rate_limit=None)})).create()
    assert (bare.status, bare.row()["error_type"]) == ("failed", "integration_not_connected")
    sim = Sim(made).create(connections=raw(connections))
    assert {(one.key, one.limit, one.period_ms) for one in requests(sim)} == {
        ("read over github", 10, 60_000),
        ("connection github/work", 2, 1_000),
    }
    for request in requests(sim):
        flow = ids.flow_key("default", "rate_limit", request.key)
        sim.do(GrantPermit(permit_id=request.permit_id, count=1, flow_id=flow))
    names = {step_id: loads(order.connection)["name"] for step_id, order in sim.orders.items()}
    assert names == {"a": "github", "b": "work"}
