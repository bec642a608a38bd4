"""Each oracle of the checker fires: a sound installation is doctored in one place at a time."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from headrace.log.port import Recorded
from headrace.testing.checker.check import check, settled
from headrace.testing.checker.histories import Watch
from headrace.testing.checker.history import Asked, Finding, History, Reading, Sample
from headrace.testing.checker.promises import taken_back
from headrace.testing.simulation.scenario import scenario
from headrace.testing.simulation.schedule import Schedule
from headrace.testing.simulation.weather import CALM
from headrace.testing.views import at_once

NOW = 1_900_000_000_000
SEED = 16


@pytest.fixture
def sound() -> Schedule:
    """Give an installation whose runs are over, and what was written down about it."""
    schedule = Schedule(msgspec.structs.replace(scenario(SEED), faults=(), rates=CALM))
    assert not schedule.run().findings
    return schedule


def found(schedule: Schedule) -> set[str]:
    told: list[Finding] = at_once(check(schedule.log, schedule.history, now_ms=NOW))
    return {finding.invariant for finding in told}


def acknowledged_without_events(schedule: Schedule) -> None:
    run = "run_01mcc5rp5ne9hbzaj92x6we780"
    schedule.history.asked.append(Asked(kind="create_run", log="runs", at=NOW, status=201, stream_id=run))


def another_answer_to_the_same_key(schedule: Schedule) -> None:
    first = next(asked for asked in schedule.history.asked if asked.key)
    schedule.history.asked.append(msgspec.structs.replace(first, answer=b"{}"))


def an_effect_twice(schedule: Schedule) -> None:
    schedule.history.acted.append(schedule.history.acted[0])


def an_effect_that_nobody_granted(schedule: Schedule) -> None:
    schedule.history.acted.append(msgspec.structs.replace(schedule.history.acted[0], attempt_id="att_another"))


def a_success_that_never_acted(schedule: Schedule) -> None:
    schedule.history.acted.pop(0)


def a_reader_that_missed_one(schedule: Schedule) -> None:
    next(reading for reading in schedule.history.readings if len(reading.seen) > 3).seen.pop(2)


def a_reader_of_one_run_that_missed_the_end(schedule: Schedule) -> None:
    run_id = schedule.history.acted[0].run_id
    schedule.history.readings.append(Reading(reader="sse", log="runs", stream_id=run_id, seen=[1, 2]))


def a_row_that_says_something_else(schedule: Schedule) -> None:
    rows = schedule.log._rows["runs"]
    key, values = next(iter(rows.items()))
    rows[key] = tuple("running" if value in {"succeeded", "failed"} else value for value in values)


def a_flipped_byte(schedule: Schedule) -> None:
    events = next(part for part in schedule.log._parts.values() if part.log == "runs" and part.events).events
    events[1] = msgspec.structs.replace(events[1], meta=events[1].meta.replace(b"t", b"u", 1))


def an_event_that_is_gone(schedule: Schedule) -> None:
    next(part for part in schedule.log._parts.values() if part.log == "runs" and part.events).events.pop(1)


def a_process_that_grows(schedule: Schedule) -> None:
    for at, rss in ((0, 1_000), (1_000, 2_500)):
        schedule.history.samples.append(Sample(process="planner", at=at, rss_bytes=rss))


def an_idle_process_that_spins(schedule: Schedule) -> None:
    for at, cpu_s in ((0, 0.0), (1_000, 0.5)):
        schedule.history.samples.append(Sample(process="planner", at=at, cpu_s=cpu_s, idle=True))


@pytest.mark.parametrize(
    ("doctor", "invariant"),
    [
        (acknowledged_without_events, "acknowledged is kept"),
        (another_answer_to_the_same_key, "acknowledged is kept"),
        (an_effect_twice, "effect at most once"),
        (an_effect_that_nobody_granted, "effect at most once"),
        (a_success_that_never_acted, "effect at most once"),
        (a_reader_that_missed_one, "readers saw everything"),
        (a_reader_of_one_run_that_missed_the_end, "readers saw everything"),
        (a_row_that_says_something_else, "projections"),
        (a_row_that_says_something_else, "no run stuck"),
        (a_flipped_byte, "history"),
        (an_event_that_is_gone, "history"),
        (a_process_that_grows, "bounded"),
        (an_idle_process_that_spins, "bounded"),
    ],
)
def test_a_doctored_installation_is_found_out(
    sound: Schedule, doctor: Callable[[Schedule], None], invariant: str
) -> None:
    assert found(sound) == set()
    doctor(sound)
    assert invariant in found(sound)


def test_what_was_seen_as_it_took_hold_is_held_against_the_log(sound: Schedule) -> None:
    def said() -> str:
        return "\n".join(map(str, at_once(check(sound.log, sound.history, now_ms=NOW, seen=sound.watch))))

    assert said() == ""
    next(iter(sound.watch.watched.values())).children["run_none"] = "step.succeeded"
    sound.watch.taken_back.add("apr_x")
    sound.watch.approvals["apr_x"] = {"closed": None}
    sound.watch.branches["another"] += 1
    found = said()
    assert "its child run_none by no run at all" in found
    assert "its run took it back, and it is still open [apr_x]" in found
    assert f"{sound.watch.seen} took hold" in found


def test_a_run_that_neither_ends_nor_waits_is_stuck() -> None:
    schedule = Schedule(msgspec.structs.replace(scenario(SEED), faults=(), rates=CALM))
    row = dict.fromkeys(("subject", "wake_at")) | {"id": "run_x", "status": "running", "waiting_for": None}
    schedule.log._rows["runs"]["run_x",] = tuple(row.get(column) for column in _columns())
    assert [finding.invariant for finding in at_once(settled(schedule.log, NOW))] == ["no run stuck"]
    schedule.loop.close()


def test_a_run_that_rests_with_a_parent_which_goes_on_is_stuck() -> None:
    schedule = Schedule(msgspec.structs.replace(scenario(SEED), faults=(), rates=CALM))
    held = {"for": "resume", "parent_id": "run_p"}
    for parent, found in (({"for": "resume"}, []), ({"for": "children"}, ["no run stuck"])):
        for run_id, waits in (("run_x", held), ("run_p", parent)):
            row: dict[str, Any] = {
                "id": run_id,
                "status": "waiting",
                "waiting_for": waits["for"],
                "detail": msgspec.json.encode({"waiting": [waits]}),
            }
            row["wake_at"] = None if run_id == "run_x" else NOW + 1
            schedule.log._rows["runs"][run_id,] = tuple(row.get(column) for column in _columns())
        stuck = [each.invariant for each in at_once(settled(schedule.log, NOW)) if each.stream_id == "run_x"]
        assert stuck == found
    schedule.loop.close()


def _columns() -> list[str]:
    from headrace.log.tables import TABLES

    return list(TABLES["runs"].columns)


def test_a_fault_that_never_fired_makes_the_round_void() -> None:
    history = History()
    history.planned["wipe bus"] += 1
    history.planned["kill planner"] += 1
    history.fired["kill planner"] += 2
    assert history.missing() == ["wipe bus"]


def event(version: int, type: str, **data: object) -> Recorded:
    body = msgspec.json.encode({"type": type, **data})
    return Recorded("runs", 0, version, "run_a", version, type, 1, "default", NOW, body, b"{}")


@pytest.mark.parametrize(
    ("told", "events"),
    [
        ("it follows run.failed", [("run.failed", {}), ("step.succeeded", {"step": "a"})]),
        ("ended before", [("step.succeeded", {"step": "a"}), ("step.failed", {"step": "a"})]),
        (
            "ended before",
            [("steps.succeeded", {"results": [{"step": "a", "index": 1}, {"step": "a", "index": 1}]})],
        ),
        (
            "but the current one is 2",
            [
                ("attempt.failed", {"step": "a", "attempt": 1, "attempt_id": "x", "status": "failed"}),
                ("step.succeeded", {"step": "a", "attempt": 1, "attempt_id": "x"}),
            ],
        ),
        (
            "was granted before",
            [
                ("write.claimed", {"step": "a", "attempt": 1, "attempt_id": "x"}),
                ("write.claimed", {"step": "a", "attempt": 1, "attempt_id": "x"}),
            ],
        ),
        (
            "is being cancelled",
            [("run.cancel_requested", {}), ("write.claimed", {"step": "a", "attempt": 1, "attempt_id": "x"})],
        ),
        ("nobody asked", [("approval.resolved", {"approval_id": "apr_x", "status": "approved"})]),
    ],
)
def test_a_history_that_may_not_be_is_named(told: str, events: list[tuple[str, dict[str, object]]]) -> None:
    watch = Watch(lambda _digest: None)
    said = watch.see(event(1, "run.queued", plan_digest=""))
    for version, (type, data) in enumerate(events, 2):
        said += watch.see(event(version, type, **data))
    assert any(told in finding.message for finding in said), said


def test_a_question_that_was_taken_back_and_stays_open_is_named() -> None:
    watch = Watch(lambda _digest: None)
    watch.see(event(1, "run.queued", plan_digest=""))
    watch.see(event(2, "approval.requested", step="a", approval_id="apr_x"))
    assert watch.see(event(3, "approval.resolved", step="a", approval_id="apr_x", status="superseded")) == []
    assert list(taken_back(watch)) == []
    opened = msgspec.structs.replace(event(1, "approval.opened"), log="approvals", stream_id="apr_x")
    assert watch.see(opened) == []
    assert [finding.stream_id for finding in taken_back(watch)] == ["apr_x"]


@pytest.mark.parametrize(
    ("stamps", "broken"),
    [
        ((1_000, 2_000, 3_000, 5_000), False),
        ((1_000, 2_000, 3_000, 4_999), True),
        ((1_000, 9_000, 9_000, 2_000), False),  # the clock ran ahead in between, and was set right
        ((1_000, 9_000, 2_000, 3_000, 4_000, 5_000), True),
    ],
)
def test_more_beginnings_than_a_rate_allows_are_named(stamps: tuple[int, ...], broken: bool) -> None:  # noqa: FBT001  (a case of the table)
    watch = Watch(lambda _digest: None)
    said: list[Finding] = []
    for place, stamp in enumerate(stamps):
        asked = {"kind": "rate_limit", "key": "k", "limit": 3, "period_ms": 4_000, "run_id": "run_x"}
        for version, (type, data) in enumerate((("flow.asked", asked), ("flow.given", {})), 2 * place + 1):
            told = event(version, type, permit_id=f"prm_{place}", **data)
            said += watch.see(
                msgspec.structs.replace(told, log="flow", stream_id="flw_01mcc5s2nye3psp6a6bd3tpr81", at=stamp)
            )
    named = [finding.message for finding in said if "4 were let begin within 4000 ms, where 3 may" in finding.message]
    assert len(named) == broken


def test_a_loop_that_spins_is_stopped() -> None:
    schedule = Schedule(msgspec.structs.replace(scenario(SEED), faults=(), rates=CALM))

    def spin() -> None:
        schedule.loop.later(0, spin)

    schedule.loop.later(1, spin)
    outcome = schedule.run()
    assert [finding.invariant for finding in outcome.findings] == ["nothing spins"]
