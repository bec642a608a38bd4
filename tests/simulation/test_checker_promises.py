"""Each thing that the checker says of promises and of rows: it says so, and of what is kept it says nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from headrace.testing.checker import projections, promises
from headrace.testing.checker.check import settled
from headrace.testing.checker.history import Acted, Asked, History, Reading, Sample
from headrace.testing.views import at_once
from tests.simulation.checker_kit import (
    APPROVAL,
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
)


def asked(kind: str, stream: str | None = RUN, status: int | None = 200, **more: Any) -> Asked:
    return Asked(kind=kind, log="runs", at=NOW, status=status, stream_id=stream, **more)


def acknowledged(*all_asked: Asked, events: Sequence[Told] = ()) -> list[str]:
    watch = Story().tell(RUN, ("run.queued", {"plan_digest": ""}), *events).watch
    return [finding.message for finding in promises.answers(History(asked=list(all_asked)), watch)]


def test_what_was_acknowledged_and_left_no_trace_is_said() -> None:
    paused: Told = ("run.paused", {})
    assert acknowledged(asked("create_run"), asked("pause_run"), asked("other"), events=[paused]) == []
    assert any("pause_run was answered 200" in one for one in acknowledged(asked("pause_run")))
    assert any("settle_outcome was answered 200" in one for one in acknowledged(asked("settle_outcome")))
    assert len(acknowledged(asked("other", CHILD), asked("create_run", CHILD, 201), asked("create_run", None))) == 3
    assert acknowledged(asked("pause_run", status=None), asked("pause_run", status=409)) == []


def test_a_key_that_met_two_answers_is_said() -> None:
    first = asked("create_run", key="k", answer=b"1")
    assert acknowledged(first, first, msgspec.structs.replace(first, key="other", answer=b"2")) == []
    for changed in ({"answer": b"2"}, {"stream_id": CHILD}):
        said = acknowledged(first, msgspec.structs.replace(first, **changed))
        assert any("the key 'k' met" in one for one in said)


def acted(attempt: str, *, key: str = "k", applied: bool = True, run_id: str = RUN) -> Acted:
    return Acted(key=key, tool="write", run_id=run_id, attempt_id=attempt, at=NOW, applied=applied, by_key=True)


def effects(*all_acted: Acted, events: Sequence[Told] = ()) -> list[str]:
    granted = (("run.queued", {"plan_digest": "sha256:p", "authorized": True}), done("a"), claimed("w"), *events)
    watch = Story(PLAN).tell(RUN, *granted).watch
    return [finding.message for finding in promises.effects(History(acted=list(all_acted)), watch)]


def test_an_effect_that_was_had_twice_or_by_nobody_or_not_at_all_is_said() -> None:
    again: list[Told] = [failed("w", 1, "lost"), claimed("w", 2)]
    assert effects(acted("w1"), events=[done("w")]) == []
    assert effects(acted("w1"), acted("w2", applied=False), events=again) == []
    assert effects(acted("w1"), acted("w2"), events=[SETTLED, *again]) == []
    assert any("took effect 2 times under k" in one for one in effects(acted("w1"), acted("w2"), events=again))
    assert any("acted twice for the one attempt w1" in one for one in effects(acted("w1"), acted("w1", applied=False)))
    for stranger in (acted("w9"), acted("w1", run_id=CHILD)):
        assert any("which was never granted" in one for one in effects(stranger))
    other = (("run.queued", {"plan_digest": "sha256:p", "authorized": True}), done("a"), claimed("w"))
    story = Story(PLAN).tell(CHILD, *other, done("w")).tell(RUN, *other, done("w"))
    told_of = promises.effects(History(acted=[acted("w1", run_id=CHILD)]), story.watch)
    assert list(told_of) == [], "one ledger of attempts serves both"
    never = effects(acted("w2", key="other"), events=[done("w"), claimed("v")])
    assert any("w1 succeeded and never acted" in one for one in never)
    vouched: Told = ("outcome.settled", {"step": "w", "answer": "happened"})
    assert not any("never acted" in one for one in effects(acted("w9"), events=[vouched, done("w")]))


def test_a_step_that_ended_otherwise_than_its_child_is_said() -> None:
    def ended(step: str, child: str | None) -> int:
        story = Story().tell(RUN, ("run.queued", {"plan_digest": ""}), (step, {"step": "s", "child_id": CHILD}))
        if child is not None:
            story.tell(CHILD, ("run.queued", {"plan_digest": ""}), (child, {}))
        return len(list(promises.children(story.watch)))

    assert ended("step.succeeded", "run.succeeded") == ended("step.failed", "run.failed") == 0
    assert ended("step.succeeded", "run.failed") == ended("step.failed", "run.succeeded") == 1
    assert (ended("step.succeeded", None), ended("step.failed", None)) == (1, 0)


def test_a_reader_that_missed_repeated_or_turned_something_is_said() -> None:
    watch = Story().tell(RUN, ("run.queued", {"plan_digest": ""}), done("a"), done("b")).watch

    def lacks(*seen: int, **more: Any) -> int:
        history = History(readings=[Reading(reader="r", log="runs", seen=list(seen), **more)])
        return len(list(promises.readings(history, {("runs", 0): 3}, watch)))

    for place in ({}, {"stream_id": RUN}):
        assert lacks(1, 2, 3, **place) == lacks(1, 2, whole=False, **place) == 0
        assert lacks(1, 2, **place) == lacks(1, 3, 2, **place) == lacks(1, 2, 2, 3, **place) == 1
        assert lacks(2, 3, whole=False, **place) == 1


def test_a_process_that_uses_more_and_more_or_works_while_idle_is_said() -> None:
    def used(*samples: dict[str, Any]) -> list[str]:
        taken = [Sample(**{"process": "api", "at": place * 1_000, **one}) for place, one in enumerate(samples)]
        return [finding.message for finding in promises.bounds(History(samples=taken))]

    assert used({"rss_bytes": 10}, {"rss_bytes": 20}) == used({"handles": 400, "tasks": 400}) == []
    assert used({"cpu_s": 1.0}, {"cpu_s": 9.0}) == used({"cpu_s": 1.0}, {"cpu_s": 1.01, "idle": True}) == []
    assert any("grew from 10 to 21 bytes" in one for one in used({"rss_bytes": 10}, {"rss_bytes": 21}))
    assert any("holds 401 handles" in one for one in used({"handles": 401}))
    assert any("and 401 tasks" in one for one in used({"tasks": 401}))
    assert any("10% of a core while idle" in one for one in used({"cpu_s": 1.0}, {"cpu_s": 1.1, "idle": True}))


# --- rows --------------------------------------------------------------------------------------------------------


class Rows:
    """What stands in the tables, as a log gives it."""

    def __init__(self, **tables: list[dict[str, Any]]) -> None:
        self.tables = tables

    async def row(self, table: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        found = [row for row in self.tables.get(table, ()) if row["id"] == key["id"]]
        return found[0] if found else None

    async def rows(self, table: str, where: Mapping[str, Any], **how: Any) -> list[dict[str, Any]]:
        def fits(row: dict[str, Any]) -> bool:
            return all(row.get(name) in want if isinstance(want, tuple) else row.get(name) == want for name, want in where.items())  # fmt: skip

        found = [
            row for row in self.tables.get(table, ()) if fits(row) and (how.get("after") or "") < row.get("id", "~")
        ]
        return found[: how["limit"]]


def row(status: str, waits: str | None = None, *, run_id: str = RUN, wake_at: int | None = None, **named: Any) -> Any:
    waiting = [{"for": waits, **named}] if waits else []
    return {"id": run_id, "status": status, "waiting_for": waits, "wake_at": wake_at, "detail": {"waiting": waiting}}


def stuck(*runs: Any, **tables: list[dict[str, Any]]) -> list[str]:
    found = at_once(settled(Rows(runs=list(runs), **tables), NOW))  # type: ignore[arg-type]  # the part of a log that is read
    return [finding.message for finding in found if finding.stream_id == RUN]


PENDING = {"id": APPROVAL, "subject": RUN, "status": "pending"}


@pytest.mark.parametrize(
    ("why", "runs", "tables"),
    [
        (None, [row("succeeded")], {}),
        ("it is running", [row("running")], {}),
        ("it is queued", [row("queued")], {}),
        (None, [row("waiting", "approval")], {"approvals": [PENDING]}),
        ("an approval that nobody can give", [row("waiting", "approval")], {"approvals": [{**PENDING, "status": "closed"}]}),
        (None, [row("waiting", "signal")], {}),
        ("it waits for timer until", [row("waiting", "timer", wake_at=NOW + 1)], {}),
        ("it waits for timer, due at", [row("waiting", "timer", wake_at=NOW)], {}),
        ("it waits for retry, due at None", [row("waiting", "retry")], {}),
        ("it waits for children, due at", [row("waiting", "children", wake_at=NOW + 1)], {}),
        (None, [row("queued", "concurrency", held_by=[CHILD]), row("waiting", "signal", run_id=CHILD)], {}),
        (None, [row("waiting", "concurrency", held_by=["x", CHILD]), row("waiting", "input", run_id=CHILD)], {}),
        ("held by nobody", [row("queued", "concurrency")], {}),
        ("held by run_b", [row("queued", "concurrency", held_by=[CHILD]), row("succeeded", run_id=CHILD)], {}),
        ("held by run_b", [row("queued", "concurrency", held_by=[CHILD]), row("waiting", "concurrency", run_id=CHILD)], {}),
        ("held by run_b", [row("waiting", "concurrency", held_by=[CHILD]), row("running", run_id=CHILD)], {}),
        (None, [row("waiting", "resume")], {}),
        ("it rests with its parent run_b", [row("waiting", "resume", parent_id=CHILD)], {}),
    ],
)  # fmt: skip
def test_a_run_that_neither_ends_nor_waits_for_what_may_come_is_stuck(
    why: str | None, runs: list[Any], tables: dict[str, Any]
) -> None:
    said = stuck(*runs, **tables)
    assert said == [] if why is None else any(why in one for one in said), said


def test_a_run_in_line_whose_row_names_its_wait_in_the_detail_alone_is_judged_by_that() -> None:
    queued = {**row("queued", "concurrency", held_by=[CHILD]), "waiting_for": None}
    assert stuck(queued, row("waiting", "signal", run_id=CHILD)) == []
    assert any("held by run_b" in one for one in stuck(queued))


def test_of_many_runs_every_page_is_looked_at() -> None:
    many = [row("waiting", "signal", run_id=f"run_0{number:04}") for number in range(1_000)]
    assert stuck(*many, row("running")) == ["it is running"]


def compared(run: Any, steps: list[dict[str, Any]], *events: Told, approval: str | None = None) -> list[str]:
    story = Story().tell(RUN, ("run.queued", {"plan_digest": ""}), *events)
    story.tell(APPROVAL, OPENED, log="approvals")
    kept = [{"id": APPROVAL, "status": approval}] if approval else []
    rows = Rows(runs=[run] if run else [], steps=steps, approvals=kept)
    return [finding.message for finding in at_once(projections.compare(rows, story.watch))]  # type: ignore[arg-type]  # the part of a log that is read


def test_the_row_of_a_closed_approval_says_how_it_was_closed() -> None:
    story = Story().tell(APPROVAL, OPENED, ("approval.closed", {"status": "rejected"}), log="approvals")
    for status, wrong in (("rejected", 0), ("pending", 1)):
        rows = Rows(approvals=[{"id": APPROVAL, "status": status}])
        assert len(at_once(projections.compare(rows, story.watch))) == wrong  # type: ignore[arg-type]  # the part of a log that is read


def test_a_row_that_says_otherwise_than_the_events_is_said() -> None:
    step = {"run_id": RUN, "step": "a", "status": "succeeded"}
    whole = {"id": RUN, "version": 3, "status": "succeeded"}
    assert compared(whole, [step], done("a"), END, approval="pending") == []
    assert compared({**whole, "version": 2, "status": "waiting"}, [step], done("a"), approval="pending") == []
    assert compared(whole, [{**step, "status": "cancelled"}], done("a"), END, approval="pending") == []
    for says, run, steps, events, approval in (
        ("the run has no row", None, [step], (done("a"), END), "pending"),
        ("the row is of version 2, the run of 3", {**whole, "version": 2}, [step], (done("a"), END), "pending"),
        ("the row says failed, the events run.succeeded", {**whole, "status": "failed"}, [step], (done("a"), END), "pending"),
        ("the row says succeeded, but no event does", {**whole, "version": 2}, [step], (done("a"),), "pending"),
        ("the row of step a says running", whole, [{**step, "status": "running"}], (done("a"), END), "pending"),
        ("the row of step a says None", whole, [], (done("a"), END), "pending"),
        ("the row says approved, the events pending", whole, [step], (done("a"), END), "approved"),
        ("the row says None, the events pending", whole, [step], (done("a"), END), None),
    ):  # fmt: skip
        said = compared(run, steps, *events, approval=approval)
        assert any(says in one for one in said), (says, said)
