"""Where a run meets people and gates: approvals, authorisation, confirmations, verdicts, dashboards."""

from typing import Any

from headrace import codec
from headrace.decider import Rejection
from headrace.messages import (
    CancelRun,
    NoteApprovalReceived,
    NoteOutcomeReceived,
    OpenApproval,
    ResolveApproval,
    SupersedeApproval,
    Wake,
)
from headrace.plans.model import ApprovalStep, GateStep, Plan, ToolPin, WaitStep
from headrace.vocabulary import LOG_APPROVALS
from tests.planner.runs_kit import BOB, Sim, call, plan, step


def publish(**more: Any) -> Plan:
    return plan(
        call("read"),
        step("sign_off", ApprovalStep(prompt="Publish {{ steps.read.output.n }}?", expires_s=3600, **more), "read"),
        call("write", "sign_off", tool="write", arguments={"n": "{{ steps.read.output.n }}"}, covered_by=("sign_off",)),
    )


def waiting() -> Sim:
    return Sim(publish()).create().report("read", {"n": 3})


def test_an_approval_step_shows_what_is_decided_and_binds_to_its_digest() -> None:
    sim = waiting()
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "approval")
    asked = next(tell.command for tell in sim.told if isinstance(tell.command, OpenApproval))
    shown = codec.loads(asked.shown)
    assert (shown["prompt"], shown["plan_digest"], shown["run_id"]) == ("Publish 3?", sim.digest, sim.id)
    assert asked.digest == codec.digest(shown)
    assert (asked.requester.name, asked.expires_at) == ("ann", sim.now + 3_600_000)
    assert sim.told[0].log == LOG_APPROVALS
    assert shown["tools"] == [{"step": "write", "tool": "write", "effect": "write"}]  # what the decision lets go on


def test_an_approval_lets_the_covered_write_go_on() -> None:
    sim = waiting()
    assert "write" not in sim.orders
    sim.resolve()
    assert codec.loads(sim.orders["write"].arguments) == {"n": 3}
    assert sim.output("sign_off")["by"] == ["bob"]


def test_a_rejection_fails_the_run_names_who_and_why_and_calls_no_tool() -> None:
    sim = waiting().resolve("rejected", reason="too early")
    assert sim.status == "failed"
    assert "rejected by bob: too early" in sim.why()
    assert "write" not in sim.orders


def test_an_expired_approval_counts_as_rejected() -> None:
    sim = waiting().resolve("expired")
    assert (sim.status, sim.run.data.error and sim.run.data.error.type) == ("failed", "confirmation_denied")


def test_an_outcome_delivered_twice_changes_nothing_but_earns_the_receipt_again() -> None:
    sim = waiting().resolve()
    receipts = [tell for tell in sim.told if isinstance(tell.command, NoteOutcomeReceived)]
    assert len(receipts) == 1
    assert sim.resolve().made() == []
    assert len([tell for tell in sim.told if isinstance(tell.command, NoteOutcomeReceived)]) == 2


def test_an_outcome_of_what_the_run_never_asked_is_refused() -> None:
    sim = waiting()
    sim.do(ResolveApproval(approval_id="apr_other", step="sign_off", status="approved", digest="sha256:x"))
    assert "asked for no approval apr_other" in sim.refused()
    assert "write" not in sim.orders


def test_a_map_that_requires_confirmation_shows_its_arguments_as_they_are_written() -> None:
    sim = Sim(plan(call("m", items=[1, 2], confirm=True, arguments={"n": "{{ item }}"}))).create()
    (asked,) = [tell.command for tell in sim.told if isinstance(tell.command, OpenApproval)]
    assert codec.loads(asked.shown)["arguments"] == {"n": "{{ item }}"}
    sim.resolve()
    assert codec.loads(sim.orders["m[1]"].arguments) == {"n": 2}


def test_an_outcome_about_another_digest_is_refused() -> None:
    sim = waiting()
    ask = next(iter(sim.run.data.asks.values()))
    sim.do(ResolveApproval(approval_id=ask.approval_id, step=ask.step, status="approved", digest="sha256:other"))
    assert isinstance(sim.last, Rejection)
    assert "sha256:other" in sim.refused()
    assert ask.digest in sim.refused()


def test_a_run_that_also_waits_for_others_asks_at_once_and_takes_its_question_back_at_once() -> None:
    sim = Sim(plan(step("ok", ApprovalStep()), step("w", WaitStep(event="deployed")))).create()
    assert [type(tell.command) for tell in sim.told] == [OpenApproval]
    sim.do(CancelRun())
    assert [type(tell.command) for tell in sim.told] == [OpenApproval, SupersedeApproval]


def test_a_question_is_repeated_until_its_receipt() -> None:
    sim = waiting()
    asked = [tell for tell in sim.told if isinstance(tell.command, OpenApproval)]
    sim.later(3).do(Wake())
    again = [tell for tell in sim.told if isinstance(tell.command, OpenApproval)]
    assert (len(asked), len(again)) == (1, 2)
    assert asked[0] == again[1]
    sim.do(NoteApprovalReceived(approval_id=asked[0].stream_id))
    assert sim.do(NoteApprovalReceived(approval_id=asked[0].stream_id)).made() == []
    sim.later(3).do(Wake())
    assert len([tell for tell in sim.told if isinstance(tell.command, OpenApproval)]) == 2


def test_a_run_that_ends_takes_its_questions_back() -> None:
    sim = Sim(plan(call("a"), step("ask", ApprovalStep()))).create()
    sim.fail("a")
    assert [tell for tell in sim.told if isinstance(tell.command, SupersedeApproval)]


def test_a_question_without_a_receipt_goes_with_what_takes_it_back_until_that_is_confirmed() -> None:
    sim = Sim(plan(call("a"), step("ask", ApprovalStep()))).create()
    (asked,) = [tell.command for tell in sim.told if isinstance(tell.command, OpenApproval)]
    sim.fail("a")
    (ask,) = sim.run.data.asks.values()
    sim.later(3).do(Wake())
    taken = [tell.command for tell in sim.told if isinstance(tell.command, SupersedeApproval)]
    assert [each.asked for each in taken] == [asked, asked]
    assert not sim.room.finished(sim.run)
    sim.do(ResolveApproval(approval_id=ask.approval_id, step="ask", status="superseded", digest=ask.digest))
    assert sim.room.finished(sim.run)


def test_a_question_that_arrives_after_the_run_ended_is_taken_back_again() -> None:
    sim = Sim(plan(call("a"), step("ask", ApprovalStep()))).create()
    sim.fail("a")
    (approval_id,) = sim.run.data.asks
    assert sim.do(NoteApprovalReceived(approval_id=approval_id)).made() == []
    assert len([tell for tell in sim.told if isinstance(tell.command, SupersedeApproval)]) == 2


def test_a_confirmation_covers_the_gated_step_whose_arguments_it_showed() -> None:
    sim = Sim(plan(call("write", tool="write", confirm=True))).create()
    assert len(sim.run.data.asks) == 1
    sim.resolve()
    assert "write" in sim.orders


def test_gated_tools_that_nothing_covers_wait_for_an_approval_of_the_run() -> None:
    sim = Sim(plan(call("read"), call("write", tool="write"), authorization="run")).create()
    assert set(sim.orders) == {"read"}
    asked = next(tell.command for tell in sim.told if isinstance(tell.command, OpenApproval))
    assert codec.loads(asked.shown)["tools"] == [{"step": "write", "tool": "write", "effect": "write"}]
    sim.resolve()
    assert "write" in sim.orders


def test_a_rejected_run_is_not_authorized_and_calls_no_gated_tool() -> None:
    """Row 70, for a run's own authorisation."""
    sim = Sim(plan(call("write", tool="write"), authorization="run")).create().resolve("rejected")
    assert sim.run.data.error is not None
    assert (sim.status, sim.run.data.error.type, sim.orders) == ("failed", "not_authorized", {})


def test_a_standing_authorisation_needs_no_question() -> None:
    sim = Sim(plan(call("write", tool="write"), authorization="run")).create(authorized=True)
    assert ("write" in sim.orders, sim.told) == (True, [])


def test_a_step_that_requires_confirmation_shows_its_arguments_and_a_denial_is_on_record() -> None:
    """Row 74."""
    sim = Sim(plan(call("a", arguments={"path": "x"}, confirm=True))).create()
    asked = next(tell.command for tell in sim.told if isinstance(tell.command, OpenApproval))
    assert codec.loads(asked.shown)["arguments"] == {"path": "x"}
    assert sim.orders == {}
    sim.resolve("rejected", by=BOB, reason="no")
    assert sim.run.data.error is not None
    assert (sim.status, sim.run.data.error.type, sim.orders) == ("failed", "confirmation_denied", {})
    assert "approval.resolved" in sim.names


def test_a_confirmed_step_is_performed() -> None:
    sim = Sim(plan(call("a", confirm=True))).create().resolve()
    assert "a" in sim.orders
    assert sim.report("a", {}).status == "succeeded"


def gate(*, required: bool = True, message: str = "") -> Sim:
    body = GateStep(
        gate="expression", config={"expression": "steps.a.output.n > 3"}, required=required, failure_message=message
    )
    return (
        Sim(plan(call("a"), step("ready", body, "a", kind="gate"), call("b", "ready"))).create().report("a", {"n": 5})
    )


def test_a_gate_is_given_the_evidence_that_its_expression_names() -> None:
    sim = gate()
    order = sim.orders["ready"]
    assert (order.pool, order.tool) == ("gates", "gate.expression")
    assert codec.loads(order.arguments) == {"expression": "steps.a.output.n > 3"}
    assert codec.loads(order.evidence)["steps"]["a"]["output"] == {"n": 5}


def test_a_gate_that_passes_lets_the_run_go_on() -> None:
    sim = gate().report("ready", {"outcome": "passed", "message": "", "evidence": {}})
    assert "b" in sim.orders


def test_a_required_gate_that_fails_fails_the_run_and_the_error_names_it() -> None:
    """Row 26, and the failureMessage of row 19."""
    sim = gate(message="PRD not found").report("ready", {"outcome": "failed", "message": "nothing matched"})
    assert sim.status == "failed"
    assert "'ready'" in sim.why()
    assert "PRD not found" in sim.why()
    assert sim.run.data.error is not None
    assert sim.run.data.error.details["gate"] == "ready"


def test_a_gate_in_error_never_passes() -> None:
    assert gate().report("ready", {"outcome": "error", "message": "bad"}).status == "failed"
    assert gate().report("ready", {}).status == "failed"


def test_an_optional_gate_only_warns() -> None:
    sim = gate(required=False).report("ready", {"outcome": "failed", "message": "meh"})
    assert ("b" in sim.orders, sim.step_status("ready")) == (True, "succeeded")


def dashboard() -> Sim:
    pin = ToolPin(
        version="1",
        digest="sha256:q",
        effect="read",
        access="auto",
        pool="integrations",
        idempotent=True,
        requires_connection="github",
    )
    views = (
        {"id": "open_count", "type": "metric", "step": "open_count", "aggregate": "count"},
        {"id": "newest", "type": "table", "step": "newest", "columns": ["number"], "sort": "-number", "limit": 1},
    )
    steps = (
        call("open_count", tool="github.issues", on_error="continue"),
        call("newest", tool="github.issues", on_error="continue"),
    )
    the_plan = Plan(name="d", kind="Dashboard", steps=steps, tools={"github.issues": pin}, views=views)
    connection = {"github": {"name": "github", "settings": {}, "secrets": {"token": "env:T"}}}
    return Sim(the_plan).create(connections=codec.raw(connection))


def test_a_dashboard_gives_a_result_per_view_also_when_one_fails() -> None:
    sim = dashboard()
    assert codec.loads(sim.orders["newest"].connection)["secrets"] == {"token": "env:T"}
    rows = {"rows": [{"number": 1}, {"number": 2}], "source": "github", "fetched_at": "2026-11-21T00:00:00Z"}
    sim.report("newest", rows).fail("open_count", "bad credentials", "integration_auth_error")
    assert sim.status == "succeeded"
    result = codec.loads(sim.run.data.outputs)
    assert result["newest"]["rows"] == [{"number": 2}]
    assert result["newest"]["source"] == "github"
    assert (result["open_count"]["status"], result["open_count"]["error"]["type"]) == (
        "failed",
        "integration_auth_error",
    )


def test_a_metric_view_is_aggregated() -> None:
    sim = dashboard()
    rows = {"rows": [{"number": 1}, {"number": 2}], "source": "github", "fetched_at": "x"}
    sim.report("newest", rows).report("open_count", rows)
    assert codec.loads(sim.run.data.outputs)["open_count"]["value"] == 2


def test_a_question_too_large_to_be_sent_fails_its_step_instead_of_waiting_for_ever() -> None:
    sim = Sim(publish()).create().report("read", {"n": "x" * 1_048_576})
    assert sim.status == "failed"
    assert "an approver would be shown" in sim.why()
    assert sim.told == []
