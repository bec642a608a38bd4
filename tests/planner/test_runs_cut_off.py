"""A keyed write of which an earlier attempt was cut off after its claim, and whose last attempt ends otherwise."""

from typing import Any

import pytest

from headrace import codec
from headrace.events.base import ErrorInfo
from headrace.events.steering import OutcomeLost
from headrace.messages import CancelRun, ReportAttempt, Wake
from headrace.plans.model import ArtifactSpec, LoopStep, Plan, Retry, ToolPin
from headrace.steering import DropAttempt, PauseRun, SettleOutcome
from tests.planner.runs_kit import READ, Sim, call, evidence_of, step

KEYED = ToolPin(version="1", digest="sha256:i", effect="write", access="auto", pool="runner", idempotent=True)
TWICE = Retry(max_attempts=2, initial_s=0)
UNDO = call("w.compensate", tool="w", compensates="w")


def acting(*more: Any, undone: bool = False, timeout_s: float = 1800, **fields: Any) -> Sim:
    fields.setdefault("retry", TWICE)
    steps = (call("w", tool="w", **fields), *more)
    compensations = (UNDO,) if undone else ()
    tools = {"w": KEYED, "read": READ}
    return Sim(
        Plan(name="d", kind="Workflow", steps=steps, tools=tools, compensations=compensations, timeout_s=timeout_s)
    ).create()


def cut(sim: Sim, name: str = "w", *, nonce: str = "n1") -> Sim:
    """Let a worker claim an attempt and run out of its time."""
    return sim.claim(name, nonce=nonce).fail(name, "too slow", "timeout", status="timed_out")


def settle(sim: Sim, answer: str, output: Any = None, **more: Any) -> Sim:
    return sim.do(SettleOutcome(step="w", answer=answer, output=codec.raw(output), **more))


def undoing(sim: Sim) -> Sim:
    """Let what an item did be undone."""
    name = next(name for name in sim.orders if name.startswith("w.compensate"))
    return sim.claim(name, nonce="u").report(name, {})


def doubts(sim: Sim) -> list[str]:
    named: list[str] = sim.row()["detail"].get("unknown_outcomes", [])
    return named


@pytest.mark.parametrize("claimed", [True, False])
def test_the_error_of_a_last_plain_failure_says_which_earlier_attempt_may_have_acted(*, claimed: bool) -> None:
    sim = cut(acting())
    if claimed:
        sim.claim("w", nonce="n2")
    assert sim.fail("w", "refused").made() == ["step.failed", "run.failed"]
    assert sim.run.data.error is not None
    details = sim.run.data.error.details
    assert (sim.run.data.error.type, details["outcome"], details["attempt"]) == ("tool_error", "unknown", 1)
    assert "refused (attempt 1 was cut off while it acted: whether it happened is unknown)" in sim.why()
    assert doubts(sim) == ["w"]


def test_a_retry_that_succeeds_leaves_no_doubt() -> None:
    sim = cut(acting()).claim("w", nonce="n2").report("w", {"id": 7})
    assert (sim.status, doubts(sim), sim.run.data.doubts) == ("succeeded", [], [])


def test_an_attempt_that_was_cut_off_before_its_claim_leaves_no_doubt() -> None:
    sim = acting().fail("w", "too slow", "timeout", status="timed_out").claim("w").fail("w", "refused")
    assert (sim.status, doubts(sim)) == ("failed", [])
    assert sim.why() == "step 'w' failed: refused"


def test_an_attempt_that_failed_by_its_own_word_leaves_no_doubt() -> None:
    sim = acting().claim("w").fail("w", "broken").claim("w", nonce="n2").fail("w", "refused")
    assert (sim.status, doubts(sim)) == ("failed", [])


def test_a_person_is_asked_about_the_earlier_attempt_where_it_may_have_to_be_undone() -> None:
    sim = acting(undone=True)
    order, claimed_at = sim.orders["w"], sim.now
    cut(sim).later(5).claim("w", nonce="n2")
    assert sim.fail("w", "refused").made() == ["outcome.lost"]
    (wait,) = sim.row()["detail"]["waiting"]
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "input")
    assert wait["evidence"] == evidence_of(order, claimed_at)
    assert "ran out of time while w acted" in wait["message"]
    assert "(attempt 1; attempt 2 failed)" in wait["message"]
    assert [(each.number, each.status) for each in sim.run.peek("w").tried] == [(1, "timed_out"), (2, "failed")]
    assert sim.fail("w", "refused").made() == [], "the same word again is nothing"


def asked() -> Sim:
    return cut(acting(undone=True)).claim("w", nonce="n2").fail("w", "refused")


def test_it_happened_after_all_ends_the_step_well_and_it_is_undone_when_the_run_is_cancelled() -> None:
    sim = settle(asked(), "happened", {"id": 7})
    assert (sim.status, sim.output("w"), sim.run.peek("w").attempt) == ("succeeded", {"id": 7}, 1)
    sim = asked().do(CancelRun(reason="enough"))
    assert (sim.status, "w.compensate" in sim.orders) == ("waiting", False)
    settle(sim, "happened", {"id": 7})
    assert sim.claim("w.compensate", nonce="n3").report("w.compensate", {}).status == "cancelled"


def test_when_it_did_not_happen_the_failure_since_then_stands() -> None:
    sim = settle(asked(), "not_happened", reason="the list is empty")
    assert (sim.status, doubts(sim), "w.compensate" in sim.orders) == ("failed", [], False)
    assert sim.why().startswith("step 'w' failed: refused; worker wrk_1 ran out of time while w acted")
    assert sim.run.data.error is not None
    assert (sim.run.data.error.type, sim.run.data.error.details["outcome"]) == ("tool_error", "not_happened")
    assert [(each.number, each.status) for each in sim.run.peek("w").tried] == [(1, "timed_out"), (2, "failed")]


def test_giving_up_leaves_the_failure_and_the_doubt() -> None:
    sim = settle(asked(), "give_up")
    assert (sim.status, doubts(sim)) == ("failed", ["w"])
    assert sim.run.data.error is not None
    assert (sim.run.data.error.type, sim.run.data.error.details["outcome"]) == ("tool_error", "unknown")


def late(sim: Sim, status: str, first: str, **more: Any) -> ReportAttempt:
    return ReportAttempt(
        run_id=sim.id, step="w", attempt=1, attempt_id=first, status=status, worker="wrk_1", finished_at=sim.now, **more
    )


def test_the_late_word_of_the_worker_that_was_cut_off_settles_it() -> None:
    sim = acting(undone=True)
    first = sim.orders["w"].attempt_id
    cut(sim).claim("w", nonce="n2").fail("w", "refused")
    sim.do(late(sim, "succeeded", first, output=codec.raw({"id": 7})))
    assert (sim.made()[:2], sim.output("w")) == (["outcome.settled", "step.succeeded"], {"id": 7})
    other = acting(undone=True)
    first = other.orders["w"].attempt_id
    cut(other).claim("w", nonce="n2").fail("w", "refused").do(late(other, "failed", first))
    assert (other.status, other.why(), doubts(other)) == ("failed", "step 'w' failed: refused", [])


def test_one_worker_cannot_speak_for_two_attempts_that_were_cut_off() -> None:
    sim = cut(acting(undone=True, retry=Retry(max_attempts=3, initial_s=0)))
    second = sim.orders["w"].attempt_id
    cut(sim, nonce="n2").claim("w", nonce="n3").fail("w", "refused")
    sim.do(ReportAttempt(run_id=sim.id, step="w", attempt=2, attempt_id=second, status="failed", worker="wrk_1"))
    assert (sim.made(), sim.status) == (["attempt.late"], "waiting")


def test_the_word_about_the_last_attempt_leaves_the_earlier_one_to_be_asked_about() -> None:
    sim = cut(cut(acting(undone=True)), nonce="n2")
    assert sim.row()["detail"]["waiting"][0]["evidence"]["attempt"] == 2
    assert sim.fail("w", "refused").made() == ["outcome.settled", "outcome.lost"]
    assert sim.row()["detail"]["waiting"][0]["evidence"]["attempt"] == 1
    assert settle(sim, "not_happened").status == "failed"


def test_what_a_person_says_did_not_happen_is_in_no_doubt_later() -> None:
    sim = settle(cut(cut(acting(undone=True)), nonce="n2"), "not_happened")
    assert sim.claim("w", nonce="n3").fail("w", "refused").made() == ["step.failed", "run.failed"]
    assert (sim.status, doubts(sim)) == ("failed", [])


def test_a_write_that_waits_to_be_tried_again_when_its_steps_time_is_over() -> None:
    later = Retry(max_attempts=2, initial_s=60)
    sim = cut(acting(retry=later, step_timeout_s=30)).later(31).do(Wake())
    assert sim.run.data.error is not None
    assert (sim.made(), sim.run.data.error.details["unknown"]) == (["step.failed", "run.failed"], ["w"])
    assert doubts(sim) == ["w"]
    sim = cut(acting(undone=True, retry=later, step_timeout_s=30)).later(31).do(Wake())
    assert (sim.made(), sim.row()["waiting_for"], sim.room.wake_at(sim.run)) == (["outcome.lost"], "input", None)
    assert "step timeout" in settle(sim, "not_happened").why()
    assert doubts(sim) == []


def test_a_keyed_write_that_acts_when_its_steps_time_is_over_is_asked_about_where_it_may_be_undone() -> None:
    sim = acting(undone=True, step_timeout_s=30).claim("w").later(31).do(Wake())
    assert (sim.made(), sim.row()["waiting_for"]) == (["outcome.lost"], "input")
    assert acting(step_timeout_s=30).claim("w").later(31).do(Wake()).status == "failed"


@pytest.mark.parametrize("how", ["cancel", "sibling", "time"])
def test_what_waits_to_be_tried_again_when_the_run_ends_is_asked_about_before_it_is_undone(how: str) -> None:
    later = Retry(max_attempts=2, initial_s=3600)
    sim = cut(acting(call("r"), undone=True, retry=later, timeout_s=60))
    ends = {
        "cancel": lambda: sim.do(CancelRun()),
        "sibling": lambda: sim.fail("r"),
        "time": lambda: sim.later(61).do(Wake()),
    }
    ends[how]()
    assert "outcome.lost" in sim.made()
    if how != "sibling":
        sim.report("r", None, status="cancelled")
    assert (sim.status, sim.row()["waiting_for"], "w.compensate" in sim.orders) == ("waiting", "input", False)
    assert sim.later(7200).do(Wake()).made() == [], "it is not tried again"
    settle(sim, "happened", {"id": 7})
    sim.claim("w.compensate", nonce="n2").report("w.compensate", {})
    assert (sim.status, doubts(sim)) == ("cancelled" if how == "cancel" else "failed", [])


def test_what_waits_to_be_tried_again_when_the_run_ends_is_named_where_nothing_is_undone() -> None:
    later = Retry(max_attempts=2, initial_s=3600)
    assert doubts(cut(acting(call("r"), retry=later)).fail("r")) == ["w"]
    stopped = cut(acting(call("r"), retry=later)).do(CancelRun())
    assert doubts(stopped.report("r", None, status="cancelled")) == ["w"]
    assert doubts(cut(acting(retry=later)).do(CancelRun())) == ["w"]
    paused = cut(acting(call("r"), retry=later).do(PauseRun())).do(CancelRun())
    assert doubts(paused.report("r", None, status="cancelled")) == ["w"]


def test_a_question_that_is_dropped_because_the_run_is_cancelled_is_kept_by_name() -> None:
    acts = ToolPin(version="1", digest="sha256:a", effect="write", access="auto", pool="runner", idempotent=False)
    steps = (call("w", tool="w"), call("r"))
    sim = Sim(Plan(name="d", kind="Workflow", steps=steps, tools={"w": acts, "read": READ})).create()
    sim.claim("w").lose("w").do(CancelRun()).report("r", None, status="cancelled")
    assert (sim.status, doubts(sim)) == ("cancelled", ["w"])


def test_what_no_worker_took_a_second_time_says_that_it_may_have_acted_the_first_time() -> None:
    def dropped(**more: Any) -> Sim:
        sim = cut(acting(queue_timeout_s=10, **more)).later(11)
        order = sim.orders["w"]
        return sim.do(DropAttempt(step="w", attempt=order.attempt, attempt_id=order.attempt_id))

    assert (dropped().status, doubts(dropped())) == ("failed", ["w"])
    assert dropped(undone=True).row()["waiting_for"] == "input"


def test_a_keyed_write_that_was_handed_back_for_good_may_have_acted() -> None:
    def returned(**more: Any) -> Sim:
        sim = acting(**more)
        sim.room.bounds = sim.run.bounds
        for number in range(100):
            sim.claim("w", nonce=f"n{number}").report("w", None, status="cancelled").later(61).do(Wake())
        return sim

    sim = returned()
    assert (sim.status, doubts(sim)) == ("failed", ["w"])
    assert returned(undone=True).row()["waiting_for"] == "input"


def test_items_of_a_map_are_asked_about_one_by_one_and_the_others_go_on() -> None:
    sim = acting(undone=True, items=[1, 2])
    cut(sim, "w[1]").claim("w[0]", nonce="a").claim("w[1]", nonce="n2").fail("w[1]", "refused")
    assert sim.status == "running"
    sim.report("w[0]", 1)
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "input")
    settle(sim, "not_happened", index=1)
    undoing(sim)
    assert (sim.status, doubts(sim)) == ("failed", [])


def test_an_item_that_fails_for_good_is_named_and_so_are_others_that_wait_to_be_tried_again() -> None:
    sim = acting(items=[1, 2], retry=Retry(max_attempts=2, initial_s=60), on_error="continue")
    cut(cut(sim, "w[0]"), "w[1]", nonce="m1").later(70).do(Wake())
    sim.fail("w[1]", "refused")
    assert (sim.status, sorted(doubts(sim))) == ("succeeded", ["w[0]", "w[1]"])


def test_items_that_wait_to_be_tried_again_when_their_map_is_over_its_time() -> None:
    later = Retry(max_attempts=2, initial_s=60)
    named = cut(acting(items=[1, 2], retry=later, step_timeout_s=30), "w[1]").later(31).do(Wake())
    assert (named.status, doubts(named)) == ("failed", ["w[1]"])
    sim = cut(acting(undone=True, items=[1, 2], retry=later, step_timeout_s=30), "w[1]").later(31).do(Wake())
    assert sim.made() == ["outcome.lost", "step.failed", "compensation.started"]
    undoing(settle(sim, "happened", {"id": 2}, index=1))
    assert (sim.status, doubts(sim)) == ("failed", [])


def test_a_tool_that_had_no_answer_in_time_knows_no_more_than_one_that_was_stopped() -> None:
    acts = ToolPin(version="1", digest="sha256:a", effect="write", access="auto", pool="runner", idempotent=False)
    plan = Plan(name="d", kind="Workflow", steps=(call("w", tool="w"),), tools={"w": acts, "read": READ})
    sim = Sim(plan).create().claim("w")
    assert sim.fail("w", "not answered within 30 s", "timeout").made() == ["outcome.lost"]
    assert sim.fail("w", "not answered within 30 s", "timeout").made() == ["attempt.late"]
    assert settle(sim, "happened", {"id": 7}).status == "succeeded"
    keyed = acting().claim("w").fail("w", "not answered", "timeout").claim("w", nonce="n2").fail("w", "refused")
    assert (keyed.status, doubts(keyed)) == ("failed", ["w"])
    last = acting(retry=Retry(max_attempts=1)).claim("w").fail("w", "not answered within 30 s", "timeout")
    assert (last.status, last.why(), doubts(last)) == ("failed", "step 'w' failed: not answered within 30 s", ["w"])


def test_of_a_round_of_a_loop_the_question_names_the_round() -> None:
    turns = step("again", LoopStep(condition="iteration < 2", body=("w",)))
    later = Retry(max_attempts=2, initial_s=3600)
    steps = (turns, call("w", tool="w", parent="again", retry=later))
    plan = Plan(name="d", kind="Workflow", steps=steps, tools={"w": KEYED, "read": READ}, compensations=(UNDO,))
    sim = cut(Sim(plan).create().claim("w").report("w", {}), nonce="n2").do(CancelRun())
    (lost,) = [event for event, _ in sim.history if isinstance(event, OutcomeLost)]
    assert (lost.iteration, lost.attempt) == (2, 1)


# --- what acted, and whose result is of no use -------------------------------------------------------------------


def test_a_write_whose_artifact_cannot_be_made_has_happened_all_the_same() -> None:
    wanted = ArtifactSpec(type="url", label="letter", value="{{ output.link }}")
    sim = acting(artifacts=(wanted,)).claim("w").report("w", {"id": 7})
    assert (sim.made(), doubts(sim)) == (["step.failed", "run.failed"], [])
    assert sim.run.data.error is not None
    assert sim.run.data.error.details["outcome"] == "happened"
    sim = acting(undone=True, artifacts=(wanted,)).claim("w").report("w", {"id": 7})
    assert (sim.made(), sim.row()["waiting_for"]) == (["outcome.lost"], "input")
    assert "acted for w, and what came of it is of no use" in sim.row()["detail"]["waiting"][0]["message"]
    assert sim.report("w", {"id": 7}).made() == ["attempt.late"], "that is what its worker said before"
    assert "output: with this one the step fails" in settle(sim, "happened", {"id": 7}).refused()
    settle(sim, "happened", {"id": 7, "link": "there"})
    assert sim.status == "succeeded"


def test_a_write_that_is_undone_though_its_artifact_cannot_be_made() -> None:
    wanted = ArtifactSpec(type="url", label="letter", value="{{ output.link }}")
    sim = acting(call("r"), undone=True, artifacts=(wanted,)).claim("w").report("w", {"id": 7}).fail("r")
    settle(sim, "happened", {"id": 7, "link": "there"})
    assert sim.claim("w.compensate", nonce="u").report("w.compensate", {}).status == "failed"
    given_up = settle(acting(undone=True, artifacts=(wanted,)).claim("w").report("w", {"id": 7}), "give_up")
    assert (given_up.status, doubts(given_up)) == ("failed", ["w"])


def broken(sim: Sim, *, retryable: bool) -> Sim:
    order = sim.orders["w"]
    error = ErrorInfo(type="unavailable", message="its result cannot be kept", details={"outcome": "happened"})
    word = ReportAttempt(
        run_id=sim.id, step="w", attempt=order.attempt, attempt_id=order.attempt_id, status="failed",
        worker="wrk_1", error=error, retryable=retryable,
    )  # fmt: skip
    return sim.claim("w", nonce=f"b{order.attempt}").do(word)


def test_a_write_whose_result_could_not_be_kept_is_tried_again_by_its_key_or_has_happened() -> None:
    again = broken(acting(), retryable=True)
    assert (again.made(), again.orders["w"].attempt) == (["attempt.failed"], 2)
    over = broken(acting(), retryable=False)
    assert over.run.data.error is not None
    assert (over.status, over.run.data.error.details["outcome"]) == ("failed", "happened")
    assert broken(acting(undone=True), retryable=False).row()["waiting_for"] == "input"


def test_a_keyed_write_that_acted_once_is_in_no_doubt_however_its_later_attempts_end() -> None:
    over = broken(acting(), retryable=True).claim("w", nonce="n2").fail("w", "refused")
    assert over.run.data.error is not None
    details = over.run.data.error.details
    assert (over.status, details["outcome"], details["attempt"], doubts(over)) == ("failed", "happened", 1, [])
    assert "refused (attempt 1 acted, and what came of it was of no use)" in over.why()
    lost = cut(broken(acting(), retryable=True), nonce="n2")
    assert (lost.status, doubts(lost)) == ("failed", [])
    later = Retry(max_attempts=2, initial_s=3600)
    left = broken(acting(retry=later), retryable=True).do(CancelRun())
    assert (left.status, doubts(left)) == ("cancelled", [])
    assert broken(acting(undone=True, retry=later), retryable=True).do(CancelRun()).row()["waiting_for"] == "input"
