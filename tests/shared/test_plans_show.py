"""Plans as people read them: tables, trees, what needs whose approval, differences."""

import msgspec

from headrace.plans.diff import diff
from headrace.plans.model import (
    ApprovalStep,
    CallStep,
    Plan,
    PlanStep,
    SubWorkflowStep,
    ToolPin,
    TransformStep,
    WorkflowPin,
    digest,
)
from headrace.plans.show import approvals_text, rows, summary, table_text, tree, tree_text

PIN = ToolPin(version="1", digest="sha256:a", effect="write", access="gated", pool="runner", idempotent=True)


def plan(*steps: PlanStep, authorization: str = "none") -> Plan:
    return Plan(name="p", kind="Workflow", steps=steps, tools={"file_write": PIN}, authorization=authorization)


GATHER = PlanStep(id="gather", kind="transform", body=TransformStep(value=1))
SIGN = PlanStep(id="sign", kind="approval", body=ApprovalStep(roles=("approver", "admin"), quorum=2), needs=("gather",))
WRITE = PlanStep(
    id="write", kind="tool", body=CallStep(tool="file_write"), needs=("gather", "sign"), covered_by=("sign",)
)
SMALL = plan(GATHER, SIGN, WRITE)


def test_a_row_tells_what_a_step_does_to_the_world_and_who_must_agree() -> None:
    row = rows(SMALL)[2]
    assert (row.does, row.effect, row.access, row.pool, row.needs, row.approval) == (
        "file_write",
        "write",
        "gated",
        "runner",
        ("gather", "sign"),
        "by sign",
    )
    assert table_text(SMALL).splitlines()[0].split() == [
        "step",
        "kind",
        "does",
        "effect",
        "access",
        "pool",
        "needs",
        "approval",
    ]


def test_the_tree_has_each_step_once_below_the_last_that_it_needs() -> None:
    (root,) = tree(SMALL)
    assert root.row.step == "gather"
    assert root.below[0].row.step == "sign"
    assert root.below[0].below[0].also == ("gather",)
    assert tree_text(SMALL).count("write  (") == 1


def test_what_needs_whose_approval_is_said() -> None:
    assert approvals_text(SMALL) == ["sign: 2 x approver or admin must approve before write."]
    assert "authorised" in approvals_text(plan(GATHER, authorization="plan"))[0]
    assert "Every run asks" in approvals_text(plan(GATHER, authorization="run"))[0]
    assert "only reads" in approvals_text(plan(GATHER))[0]
    assert "access `auto`" in approvals_text(plan(WRITE))[0]


def test_a_summary_names_the_digest_it_is_of() -> None:
    assert summary(SMALL)["plan_digest"] == digest(SMALL)


def test_what_undoes_a_step_is_shown_with_its_arguments() -> None:
    body = CallStep(tool="file_write", arguments={"path": "{{ output.path }}"})
    undo = PlanStep(id="write.compensate", kind="tool", body=body, compensates="write", covered_by=("sign",))
    undoing = msgspec.structs.replace(SMALL, compensations=(undo,))
    row = rows(undoing)[-1]
    assert (row.step, row.does, row.effect, row.approval) == (
        "write.compensate",
        "file_write, to undo write",
        "write",
        "by sign",
    )
    shown = summary(undoing)["steps"][-1]
    assert (shown["compensates"], shown["tool"], shown["arguments"]) == ("write", "file_write", body.arguments)


def test_a_sub_workflow_is_shown_with_the_plan_that_it_runs() -> None:
    pin = WorkflowPin(version=3, digest="sha256:b")
    calls = PlanStep(id="calls", kind="sub_workflow", body=SubWorkflowStep(workflow="child", inputs={"n": 1}))
    shown = summary(msgspec.structs.replace(plan(calls), workflows={"child": pin}))["steps"][0]
    assert (shown["workflow"], shown["version"], shown["workflow_plan_digest"]) == ("child", 3, "sha256:b")
    assert shown["with"] == {"n": 1}


def test_equal_plans_do_not_differ() -> None:
    assert not diff(SMALL, plan(GATHER, SIGN, WRITE))
    assert "no change" in diff(SMALL, SMALL).text()


def test_a_difference_names_each_field_with_its_old_and_new_value() -> None:
    signed = PlanStep(id="sign", kind="approval", body=ApprovalStep(), needs=("gather",))
    other = PlanStep(id="extra", kind="transform", body=TransformStep(value=2))
    found = diff(SMALL, plan(GATHER, signed, other, authorization="run"))
    assert {str(change) for change in found.changes} == {
        "~ plan p: authorization none → run",
        '~ step sign: roles ["approver","admin"] → ["approver"]',
        "~ step sign: quorum 2 → 1",
        "+ step extra",
        "- step write",
    }


def test_another_order_is_a_difference() -> None:
    extra = PlanStep(id="extra", kind="transform", body=TransformStep(value=2))
    found = diff(plan(GATHER, extra), plan(extra, GATHER))
    assert [change.field for change in found.changes] == ["order"]
