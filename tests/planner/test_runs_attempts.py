"""Attempts: retries, timeouts, losses, claims of writes, late and repeated results."""

import msgspec
import pytest

from headrace.codec import dumps, raw, sha256
from headrace.decider import Context, MissingError, Rejection
from headrace.events.base import ArtifactInfo, BlobRef
from headrace.messages import Advance, LoseAttempt, Wake
from headrace.plans.model import ArtifactSpec, LoopStep, Plan, Retry, ToolPin, TransformStep
from headrace.vocabulary import LATE_REMEMBERED_MAX
from tests.planner.runs_kit import Sim, call, plan, step

IDEMPOTENT = ToolPin(version="1", digest="sha256:i", effect="write", access="auto", pool="runner", idempotent=True)
AUTO_WRITE = ToolPin(version="1", digest="sha256:a", effect="write", access="auto", pool="runner", idempotent=False)


def writing(pin: ToolPin, arguments: dict[str, object] | None = None) -> Plan:
    return Plan(name="d", kind="Workflow", steps=(call("w", tool="w", arguments=arguments),), tools={"w": pin})


def lose(sim: Sim, instance: str) -> Sim:
    order = sim.orders[instance]
    return sim.do(
        LoseAttempt(
            step=order.step, index=order.index, attempt=order.attempt, attempt_id=order.attempt_id, worker="wrk_1"
        )
    )


def test_a_failing_step_is_tried_as_often_as_it_asks_with_growing_delays() -> None:
    sim = Sim(plan(call("a", retry=Retry(max_attempts=3, initial_s=10, factor=2, jitter=0)))).create()
    first = sim.orders["a"]
    sim.fail("a", "flaky")
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "retry")
    assert sim.room.wake_at(sim.run) == sim.now + 10_000
    assert sim.later(9).do(Wake()).made() == []
    assert sim.later(1).do(Wake()).made() == ["step.retried"]
    second = sim.orders["a"]
    assert (second.attempt, second.idempotency_key) == (2, first.idempotency_key)
    assert second.attempt_id != first.attempt_id
    sim.fail("a", "flaky")
    assert sim.room.wake_at(sim.run) == sim.now + 20_000
    sim.later(20).do(Wake()).fail("a", "flaky for good")
    assert sim.status == "failed"
    assert sim.row("steps", step="a")["attempt"] == 3


def test_jitter_is_the_same_on_every_fold_and_retry_after_is_honoured() -> None:
    sim = Sim(plan(call("a", retry=Retry(max_attempts=2, initial_s=1)))).create()
    sim.fail("a", "slow down", "rate_limited", retry_after_s=90)
    assert sim.room.wake_at(sim.run) == sim.now + 90_000


def test_jitter_spreads_the_next_tries_around_the_delay_and_no_further() -> None:
    sim = Sim(plan(call("a", retry=Retry(max_attempts=20, initial_s=10, factor=1, jitter=0.5)))).create()
    waited = []
    for _ in range(15):
        at = sim.fail("a").room.wake_at(sim.run)
        assert at is not None
        waited.append((at - sim.now) / 1000)
        sim.later(waited[-1]).do(Wake())
    assert min(waited) >= 5
    assert max(waited) <= 15
    assert max(waited) - min(waited) > 3, "they are spread"


def test_a_source_cannot_put_the_next_try_off_for_ever() -> None:
    sim = Sim(plan(call("a", retry=Retry(max_attempts=2, initial_s=1)))).create()
    sim.fail("a", "slow down", "rate_limited", retry_after_s=1e308)
    assert sim.room.wake_at(sim.run) == sim.now + 86_400_000


@pytest.mark.parametrize("type", ["validation_error", "confirmation_denied", "precondition_failed", "tool_not_found"])
def test_what_would_fail_again_is_not_tried_again(type: str) -> None:
    sim = Sim(plan(call("a", retry=Retry(max_attempts=3)))).create()
    assert sim.fail("a", "no", type).status == "failed"


def test_only_the_named_error_types_are_retried() -> None:
    sim = Sim(plan(call("a", retry=Retry(max_attempts=3, on=("upstream_error",))))).create()
    assert sim.fail("a", "other", "tool_error").status == "failed"


def test_a_step_over_its_timeout_is_timed_out_and_the_message_names_it() -> None:
    """Row 59."""
    sim = Sim(plan(call("slow"))).create()
    sim.fail("slow", "timed out after 30 s", "timeout", status="timed_out")
    assert sim.status == "failed"
    assert "'slow'" in sim.why()
    assert sim.names[-2:] == ["step.failed", "run.failed"]


def test_a_lost_read_is_tried_again_at_once_and_three_losses_are_too_many() -> None:
    sim = Sim(plan(call("a"))).create()
    for attempt in (2, 3):
        assert "attempt.failed" in lose(sim, "a").made()
        assert sim.orders["a"].attempt == attempt
    lose(sim, "a")
    assert sim.run.data.error is not None
    assert (sim.status, sim.run.data.error.type) == ("failed", "worker_lost")
    assert [each["status"] for each in sim.row("steps", step="a")["detail"]["attempts"]] == ["lost"] * 3


def test_lose_delivered_twice_changes_nothing() -> None:
    sim = Sim(plan(call("a"))).create()
    order = sim.orders["a"]
    lose(sim, "a")
    sim.orders["a"] = order
    assert lose(sim, "a").made() == []


def test_a_result_delivered_twice_changes_nothing() -> None:
    sim = Sim(plan(call("a"), call("b", "a"))).create()
    assert sim.report("a").made() == ["step.succeeded"]
    assert sim.report("a").made() == []


def test_a_late_result_of_an_older_attempt_is_kept_and_changes_nothing() -> None:
    sim = Sim(plan(call("a"))).create()
    old = sim.orders["a"]
    lose(sim, "a")
    newer, sim.orders["a"] = sim.orders["a"], old
    assert sim.report("a", "late").made() == ["attempt.late"]
    assert sim.report("a", "late").made() == []
    sim.orders["a"] = newer
    assert sim.report("a", "good").status == "succeeded"
    assert sim.output("a") == "good"


def test_a_run_remembers_only_its_last_late_results_which_are_nothing_when_they_come_again() -> None:
    sim = Sim(plan(call("a"))).create().report("a")
    word = sim.word("a", "late")
    late = [msgspec.structs.replace(word, attempt_id=f"att_{number}") for number in range(LATE_REMEMBERED_MAX + 100)]
    for each in late:
        assert sim.do(each).made() == ["attempt.late"]
    assert len(sim.run.data.late) == LATE_REMEMBERED_MAX
    for each in late[-LATE_REMEMBERED_MAX:]:
        assert sim.do(each).made() == []
    assert sim.do(late[0]).made() == ["attempt.late"], "recorded once more"
    assert sim.output("a") is None


def test_a_result_for_an_unknown_attempt_id_is_refused() -> None:
    sim = Sim(plan(call("a"))).create()
    real = sim.orders["a"]
    sim.orders["a"] = type(real)(
        **{**{f: getattr(real, f) for f in real.__struct_fields__}, "attempt_id": "att_forged"}
    )
    sim.report("a", "forged")
    assert "is not the attempt" in sim.refused()
    assert sim.status == "running"


def test_a_word_about_a_step_that_the_run_does_not_have_is_refused() -> None:
    sim = Sim(plan(call("a"))).create()
    sim.do(msgspec.structs.replace(sim.word("a"), step="z"))
    assert "no step 'z'" in sim.refused()


def test_a_word_about_an_item_that_has_not_begun_is_kept_and_the_item_is_performed() -> None:
    sim = Sim(plan(call("m", items=[1, 2], concurrency=1))).create()
    early = msgspec.structs.replace(sim.word("m[0]", "early"), index=1, attempt_id="att_early")
    assert sim.do(early).made() == ["attempt.late"]
    sim.report("m[0]", "a").report("m[1]", "b")
    assert (sim.status, sim.row("steps", step="m")["output"]) == ("succeeded", ["a", "b"])


def test_what_a_worker_says_after_it_was_given_up_for_lost_is_news_also_of_an_item() -> None:
    sim = Sim(plan(call("m", items=[1, 2], on_item_error="collect"), call("a", on_error="continue"))).create()
    for _ in range(3):
        sim.lose("m[0]").lose("a")
    assert (sim.step_status("a"), sim.run.peek("m").map.failures) == ("failed", 1)  # type: ignore[union-attr]  # a map
    assert sim.report("m[0]", "late").made() == ["attempt.late"]
    assert sim.fail("a", "the disk is full").made() == ["attempt.late"]
    assert sim.report("m[1]", "in time").status == "succeeded"


def test_a_worker_that_says_itself_that_its_process_was_lost_has_said_nothing_new_the_second_time() -> None:
    sim = Sim(plan(call("a", on_error="continue"), call("b"))).create()
    assert sim.fail("a", "its process died", "worker_lost").made() == ["step.failed"]
    assert sim.fail("a", "its process died", "worker_lost").made() == []


def test_a_write_is_claimed_before_it_counts() -> None:
    sim = Sim(writing(AUTO_WRITE)).create()
    sim.report("w", {})
    assert "never claimed" in sim.refused()
    assert sim.claim("w").made() == ["write.claimed"]
    assert sim.claim("w").made() == []
    sim.claim("w", nonce="other")
    assert "already claimed" in sim.refused()
    assert sim.report("w", {}).status == "succeeded"


def test_a_worker_whose_claim_was_refused_does_not_end_what_another_performs() -> None:
    sim = Sim(writing(AUTO_WRITE)).create()
    sim.claim("w")
    sim.fail("w", "no permission to act", "conflict", worker="wrk_2")
    assert sim.status == "running"
    assert sim.report("w", {}).status == "succeeded"


def test_an_order_to_act_that_vanished_unclaimed_is_ordered_anew() -> None:
    sim = Sim(writing(AUTO_WRITE)).create()
    order = sim.orders["w"]
    sim.do(LoseAttempt(step="w", attempt=order.attempt, attempt_id=order.attempt_id, worker=""))
    assert (sim.status, sim.orders["w"].attempt) == ("running", 2)


def test_of_a_lost_attempt_whose_worker_the_owner_does_not_know_the_claim_tells_it() -> None:
    sim = Sim(writing(IDEMPOTENT)).create()
    order = sim.orders["w"]
    sim.claim("w").do(LoseAttempt(step="w", attempt=order.attempt, attempt_id=order.attempt_id, worker=""))
    (tried,) = sim.row("steps", step="w")["detail"]["attempts"]
    assert (tried["status"], tried["worker"]) == ("lost", "wrk_1")


def test_a_claim_of_an_earlier_round_is_refused_also_with_the_same_arguments() -> None:
    body = call("w", tool="w", parent="again", arguments={"path": "x"})
    loop = step("again", LoopStep(condition="iteration < 2", cap=9, body=("w",)))
    sim = Sim(Plan(name="d", kind="Workflow", steps=(loop, body), tools={"w": AUTO_WRITE})).create()
    first = sim.orders["w"]
    sim.claim("w").report("w", {})
    second, sim.orders["w"] = sim.orders["w"], first
    sim.claim("w", nonce="n2")
    assert f"{first.attempt_id} is not the attempt of w#2" in sim.refused()
    sim.orders["w"] = second
    assert sim.claim("w", nonce="n3").made() == ["write.claimed"]


def test_a_claim_for_other_arguments_is_refused() -> None:
    sim = Sim(writing(AUTO_WRITE, {"path": "x"})).create()
    sim.claim("w", arguments_digest=sha256(b'{"path":"y"}'))
    assert "other arguments" in sim.refused()


def test_a_lost_claimed_write_that_is_idempotent_is_tried_again_under_the_same_key() -> None:
    sim = Sim(writing(IDEMPOTENT)).create()
    key = sim.orders["w"].idempotency_key
    sim.claim("w")
    lose(sim, "w")
    assert (sim.orders["w"].attempt, sim.orders["w"].idempotency_key) == (2, key)


def test_artifacts_of_worker_and_plan_are_kept_and_listed_for_run_and_subject() -> None:
    """Row 13."""
    sim = Sim(
        plan(call("a", artifacts=(ArtifactSpec(type="file", label="report", value="{{ output.path }}"),)))
    ).create(subject="card-7")
    worker = ArtifactInfo(type="file", label="report.md", value=raw("report.md"), body=raw("# Hello"))
    sim.report("a", {"path": "report.md"}, artifacts=(worker,))
    row = sim.row("artifacts", type="file")
    assert (row["label"], row["value"], row["body"], row["subject"]) == ("report", "report.md", "# Hello", "card-7")
    assert len([1 for row in sim.room.rows(sim.run, None) if row.table == "artifacts"]) == 1


def test_an_artifact_of_the_plan_stands_beside_others_of_the_worker_and_is_read_from_a_large_output_too() -> None:
    wanted = ArtifactSpec(type="file", label="report", value="{{ output.path }}")
    sim = Sim(plan(call("a", artifacts=(wanted,)), call("b", artifacts=(wanted,)))).create()
    others = (
        ArtifactInfo(type="url", label="page", value=raw("r.md")),
        ArtifactInfo(type="file", label="log", value=raw("l.txt")),
    )
    sim.report("a", {"path": "r.md"}, artifacts=others)
    kept = [row.columns for row in sim.room.rows(sim.run, None) if row.table == "artifacts"]
    assert sorted((row["type"], row["label"], row["value"]) for row in kept) == [
        ("file", "log", "l.txt"),
        ("file", "report", "r.md"),
        ("url", "page", "r.md"),
    ]
    body = dumps({"path": "large.md", "text": "x" * 100_000})
    sim.shelf.bodies[sha256(body)] = body
    sim.report("b", blob=BlobRef(digest=sha256(body), size_bytes=len(body), preview=""))
    assert sim.row("artifacts", value="large.md")["label"] == "report"


def test_a_large_output_is_fetched_only_when_an_expression_needs_it() -> None:
    """Row 51: the event carries digest and size, the row a preview marked as such."""
    body = dumps({"text": "x" * 100_000})
    digest = sha256(body)
    sim = Sim(plan(call("a"), step("b", TransformStep(value="{{ size(steps.a.output.text) }}"), "a"))).create()
    sim.shelf.bodies[digest] = body
    sim.shelf.missing.add(digest)
    with pytest.raises(MissingError):
        sim.report("a", None, blob=BlobRef(digest=digest, size_bytes=len(body), preview="{…"))
    sim.shelf.missing.clear()
    sim.do(Wake())
    assert sim.status == "succeeded"
    assert sim.output("b") == 100_000
    row = sim.row("steps", step="a")
    assert (row["blob"], row["output"]["truncated"], row["output_bytes"]) == (digest, True, len(body))


def test_artifacts_of_a_long_map_are_written_once_each() -> None:
    sim = Sim(plan(call("m", items=list(range(20))))).create()
    for number in range(20):
        sim.report(f"m[{number}]", number, artifacts=(ArtifactInfo(type="file", label="f", value=raw(number)),))
        if number < 19:
            (event, _) = sim.history[-1]
            assert sum(row.table == "artifacts" for row in sim.room.rows(sim.run, [event])) == 1


def test_an_item_whose_order_cannot_be_made_fails_once_also_after_a_takeover() -> None:
    sim = Sim(plan(call("m", items=[1, 2], arguments={"n": "{{ 1 / (item - 1) }}"}, on_item_error="collect"))).create()
    run = sim.room.initial(sim.id, sim.workspace)
    for event, at in sim.history[: sim.names.index("map.started") + 1]:
        run = sim.room.evolve(run, event, at)
    list(sim.room.outstanding(run, sim.now))
    events = sim.room.decide(run, Advance(), Context(now=sim.now, stream_id=sim.id, workspace=sim.workspace))
    assert not isinstance(events, Rejection)
    assert [event.type_name() for event in events].count("step.failed") == 1


def test_a_step_that_fails_beside_one_whose_body_must_be_fetched_is_not_forgotten() -> None:
    steps = (
        call("a"),
        call("b", "a", arguments={"x": "{{ steps.a.output }}"}),
        call("c", "a", arguments={"x": "{{ 1 / (size(inputs) - size(inputs)) }}"}),
    )
    sim = Sim(plan(*steps)).create()
    body = dumps("large")
    digest = sha256(body)
    sim.shelf.bodies[digest] = body
    sim.shelf.missing.add(digest)
    sim.report("a", blob=BlobRef(digest=digest, size_bytes=len(body), preview=""))
    assert sim.step_status("c") == "failed"
    assert sim.status == "failed"
