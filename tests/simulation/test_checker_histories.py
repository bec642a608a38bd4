"""Each thing that the checker says of a history: it says so, and of what may be it says nothing."""

from collections.abc import Mapping
from typing import Any

import pytest

from headrace import ids
from tests.simulation.checker_kit import (
    ANN,
    APPROVAL,
    BEN,
    CHILD,
    END,
    NOW,
    OPENED,
    PLAN,
    RUN,
    SETTLED,
    Story,
    Told,
    claimed,
    done,
    failed,
    told,
)

KEY = ids.flow_key("default", "concurrency", "deploy")
UNDOING: Told = ("compensation.started", {"reason": "failed"})
CANCEL: Told = ("run.cancel_requested", {})


@pytest.mark.parametrize(
    ("says", "events", "queued"),
    [
        ("a run is created once", [("run.queued", {})], {}),
        ("step v is not over", [done("a"), claimed("w"), done("w"), done("ok"), END], {"authorized": True}),
        ("('w', 0, None) acts on the world and was never claimed", [done("a"), done("w")], {}),
        ("began before a was over", [claimed("w")], {"authorized": True}),
        ("began before w was over", [done("a"), done("v")], {}),
        ("may act although nobody approved it", [done("a"), claimed("w")], {}),
        ("('a', 0, None) was over", [done("a"), failed("a")], {}),
        ("('w', 0, None) was over", [done("a"), claimed("w"), done("w"), claimed("w", 2)], {"authorized": True}),
        ("attempt 2 of ('a', 0, None) failed, but the current one is 1", [failed("a", 2)], {}),
        ("attempt 2 of ('w', 0, None) may act, but the current one is 1", [done("a"), claimed("w", 2)], {}),
        ("is tried again although 3 attempts were lost", [failed("a", n, "lost") for n in (1, 2, 3)], {}),
        ("is tried again after 1 of 1 attempts failed", [failed("a")], {}),
        ("is tried again after 2 of 2 attempts failed", [done("a"), failed("w"), failed("w", 2)], {}),
        (
            "('a.compensate', 0, None) began before w.compensate was over",
            [done("a"), claimed("w"), done("w"), UNDOING, claimed("a.compensate")],
            {"authorized": True},
        ),
        ("may act although the run is being cancelled", [done("a"), CANCEL, claimed("w")], {"authorized": True}),
        ("the run is being cancelled", [done("a"), CANCEL, UNDOING, claimed("w")], {"authorized": True}),
        ("what the run did is being undone", [done("a"), UNDOING, claimed("w")], {"authorized": True}),
        ("apr_x was resolved before, as rejected", [
            ("approval.requested", {"step": "ok", "approval_id": "apr_x"}),
            *[("approval.resolved", {"step": "ok", "approval_id": "apr_x", "status": "rejected"})] * 2,
        ], {}),
        ("apr_x is open in its own log, not approved", [
            ("approval.requested", {"step": "ok", "approval_id": "apr_x"}),
            ("approval.resolved", {"step": "ok", "approval_id": "apr_x", "status": "approved"}),
        ], {}),
    ],
)  # fmt: skip
def test_what_may_not_be_in_a_run_is_said(says: str, events: list[Told], queued: dict[str, Any]) -> None:
    said = told(*events, plan=PLAN, **queued)
    assert any(says in one for one in said), said


@pytest.mark.parametrize(
    "events",
    [
        [done("a"), claimed("w"), done("w"), done("ok"), claimed("v"), done("v"), END],
        [failed("a", 1, "lost"), failed("a", 2, "lost"), done("a", 3)],
        [failed("a", 1, "cancelled"), failed("a", 2, "cancelled"), done("a", 3)],
        [done("a"), *[failed("w", n, "lost") for n in (1, 2)], SETTLED, failed("w", 3, "lost")],
        [done("a"), failed("w"), claimed("w", 2), done("w", 2)],
        [done("a"), claimed("w"), failed("w", 1, "lost"), claimed("w", 2),
         ("outcome.settled", {"step": "w", "answer": "happened", "attempt_id": "w1"}), done("w")],
        [done("a"), claimed("w"), done("w"), UNDOING, claimed("w.compensate"), done("w.compensate"),
         claimed("a.compensate"), done("a.compensate")],
        [done("a"), CANCEL, UNDOING, claimed("a.compensate"), done("a.compensate")],
        [done("a", iteration=1), done("a", iteration=2), done("a", index=0), done("a", index=1)],
        [("run.failed", {}), ("attempt.late", {}), ("run.purged", {})],
    ],
)  # fmt: skip
def test_of_what_may_be_in_a_run_nothing_is_said(events: list[Told]) -> None:
    assert told(*events, plan=PLAN, authorized=True) == []


def test_a_step_that_its_own_approval_covers_may_act() -> None:
    story = Story(PLAN)
    opened = {"digest": "d", "requester": ANN, "quorum": 1}
    story.tell(APPROVAL, ("approval.opened", opened), log="approvals")
    story.tell(APPROVAL, ("approval.decided", {"by": BEN, "action": "approve", "digest": "d"}), log="approvals")
    story.tell(APPROVAL, ("approval.closed", {"status": "approved"}), log="approvals")
    approval = {"step": "ok", "approval_id": APPROVAL}
    story.tell(RUN, ("run.queued", {"plan_digest": "sha256:p"}), done("a"), ("approval.requested", approval))
    story.tell(RUN, ("approval.resolved", {**approval, "status": "approved"}), ("step.skipped", {"step": "w"}))
    assert story.tell(RUN, claimed("v")).texts == []
    assert any("nobody approved" in one for one in story.tell(RUN, claimed("w", 1)).texts), "it covers v, not w"


@pytest.mark.parametrize(("asks", "wrong"), [({"confirm": True}, False), ({}, True)])
def test_only_a_step_that_asks_for_confirmation_is_covered_by_its_own(asks: dict[str, Any], *, wrong: bool) -> None:
    story = Story({**PLAN, "steps": [{"id": "w", "body": {"tool": "write"}, **asks}]})
    story.tell(APPROVAL, ("approval.opened", {"digest": "d", "requester": ANN, "quorum": 0}), log="approvals")
    story.tell(APPROVAL, ("approval.closed", {"status": "approved"}), log="approvals")
    approval = {"step": "w", "approval_id": APPROVAL}
    story.tell(RUN, ("run.queued", {"plan_digest": "sha256:p"}), ("approval.requested", approval))
    said = story.tell(RUN, ("approval.resolved", {**approval, "status": "approved"}), claimed("w")).texts
    assert any("nobody approved" in one for one in said) is wrong


def test_what_was_approved_in_the_run_and_rejected_by_the_gatekeeper_is_said() -> None:
    story = Story()
    story.tell(APPROVAL, ("approval.opened", {"digest": "d", "requester": ANN}), log="approvals")
    story.tell(APPROVAL, ("approval.closed", {"status": "rejected"}), log="approvals")
    approval = {"step": "", "approval_id": APPROVAL}
    story.tell(RUN, ("run.queued", {"plan_digest": ""}), ("approval.requested", approval))
    said = story.tell(RUN, ("approval.resolved", {**approval, "status": "approved"})).texts
    assert any("is rejected in its own log, not approved" in one for one in said)


def test_a_run_that_is_performed_before_it_holds_its_key_is_said() -> None:
    shared = {**PLAN, "concurrency": {"key": "k"}}
    asked: Told = ("permit.requested", {"permit_id": "p1"})
    given: Told = ("permit.granted", {"permit_id": "p1"})
    other: Told = ("permit.granted", {"permit_id": "p2"})
    limited: Told = ("permit.requested", {"permit_id": "p2", "step": "a"})
    assert told(asked, given, limited, done("a"), plan=shared) == []
    early: list[list[Told]] = [[done("a")], [asked, done("a")], [asked, other, done("a")]]
    for events in early:
        assert any("before the run held its concurrency key" in one for one in told(*events, plan=shared))


def test_a_stream_that_begins_otherwise_or_has_a_gap_is_said() -> None:
    assert any("a run begins with run.queued" in one for one in Story().tell(RUN, done("a")).texts)
    story = Story().tell(RUN, ("run.queued", {"plan_digest": ""}))
    story.positions["runs"] = 5
    assert any("position 6 of ('runs', 0) follows 1" in one for one in story.tell(CHILD, ("run.queued", {})).texts)
    story = Story().tell(RUN, ("run.queued", {"plan_digest": ""}))
    story.versions[RUN] = 4
    assert any("version 5 follows 1" in one for one in story.tell(RUN, done("a")).texts)


CLOSED: Told = ("approval.closed", {"status": "approved"})


def decides(who: Mapping[str, Any], digest: str = "d", action: str = "approve") -> Told:
    return "approval.decided", {"by": who, "action": action, "digest": digest}


CLEO = {"id": "tok_cleo"}


@pytest.mark.parametrize(
    ("says", "events"),
    [
        ("an approval begins with approval.opened", [CLOSED]),
        ("an approval is opened once", [OPENED, OPENED]),
        ("tok_ben decides after it was closed", [OPENED, decides(CLEO), decides({"id": "x"}), CLOSED, decides(BEN)]),
        ("tok_ben decides twice", [OPENED, decides(BEN), decides(BEN)]),
        ("tok_ann decides on their own request", [OPENED, decides(ANN)]),
        ("tok_ben decided on other, not on what was shown", [OPENED, decides(BEN, "other")]),
        ("it was closed before, as approved", [OPENED, decides(BEN), decides(CLEO), CLOSED, CLOSED]),
        ("approved by 1 of 2", [OPENED, decides(BEN), CLOSED]),
        ("approved by 1 of 2", [OPENED, decides(BEN), decides(CLEO, action="reject"), CLOSED]),
        ("its outcome was received before there was one", [OPENED, ("approval.outcome_received", {})]),
    ],
)
def test_what_may_not_be_in_an_approval_is_said(says: str, events: list[Told]) -> None:
    said = Story().tell(APPROVAL, *events, log="approvals").texts
    assert any(says in one for one in said), said


def test_of_a_sound_approval_nothing_is_said() -> None:
    events: list[Told] = [OPENED, decides(BEN), decides(CLEO), CLOSED, ("approval.outcome_received", {})]
    assert Story().tell(APPROVAL, *events, log="approvals").texts == []
    rejected: list[Told] = [OPENED, decides(BEN, action="reject"), ("approval.closed", {"status": "rejected"})]
    assert Story().tell(APPROVAL, *rejected, log="approvals").texts == []


# --- keys --------------------------------------------------------------------------------------------------------


def asks(permit: str, **more: Any) -> Told:
    return "flow.asked", {"permit_id": permit, "kind": "concurrency", "limit": 1, "period_ms": 0, **more}


def gives(permit: str, count: int = 1) -> Told:
    return "flow.given", {"permit_id": permit, "count": count}


def returns(permit: str) -> Told:
    return "flow.returned", {"permit_id": permit}


def keys(*events: Told, at: int = NOW) -> list[str]:
    return Story().tell(KEY, *events, log="flow", at=at).texts


def test_who_holds_what_is_taken_is_said() -> None:
    assert keys(asks("p"), gives("p"), returns("p"), asks("q"), gives("q")) == []
    assert any("2 hold what 1 may hold" in one for one in keys(asks("p"), gives("p"), asks("q"), gives("q")))
    assert any("p was given, and nobody asked for it" in one for one in keys(asks("q"), gives("p")))


def test_what_begins_beyond_its_rate_is_said() -> None:
    rate = {"kind": "rate_limit", "limit": 3, "period_ms": 1_000}
    story = Story().tell(KEY, asks("p", **rate), gives("p", 3), log="flow")
    assert story.tell(KEY, asks("q", **rate), gives("q", 3), log="flow", at=NOW + 1_000).texts == []
    late = story.tell(KEY, asks("r", **rate), gives("r", 1), log="flow", at=NOW + 1_999).texts
    assert any("4 were let begin within 1000 ms, where 3 may" in one for one in late)


def test_a_key_that_ends_goes_on_with_all_that_counts_or_with_nothing() -> None:
    def next_stream(story: Story, *events: Told) -> list[str]:
        return story.tell(ids.use(KEY, NOW), *events, log="flow").texts

    def held() -> Story:
        return Story().tell(KEY, asks("p"), gives("p"), log="flow")

    goes_on: Told = ("flow.ended", {"goes_on": True})
    assert (
        next_stream(held().tell(KEY, goes_on, log="flow"), ("flow.continued", {"after": KEY, "held": [["p", 1]]})) == []
    )
    wrong: list[tuple[str, list[Told], Told]] = [
        ("it ends while 1 hold it", [("flow.ended", {})], asks("q")),
        ("a stream begins with nothing while 1 ask and 1 hold", [goes_on], asks("q")),
        ("a stream begins with nothing while 1 ask and 1 hold", [], asks("q")),
        ("it goes on with []", [goes_on], ("flow.continued", {"after": KEY, "held": []})),
        ("it goes on after other", [goes_on], ("flow.continued", {"after": "other", "held": [["p", 1]]})),
        ("where nothing ended", [], ("flow.continued", {"after": KEY, "held": [["p", 1]]})),
    ]
    for says, before, begins in wrong:
        said = next_stream(held().tell(KEY, *before, log="flow"), begins)
        assert any(says in one for one in said), (says, said)
    free = Story().tell(KEY, asks("p"), gives("p"), returns("p"), ("flow.ended", {}), log="flow")
    assert next_stream(free, asks("q"), gives("q")) == []
