"""Keys that many runs share, given / when / then: who holds one, who waits, who makes room, and what is said again."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from headrace import ids
from headrace.decider import Context, Tell
from headrace.events.base import Event
from headrace.events.flow import KeyEnded, PermitAsked, PermitGiven, PermitRecalled, PermitReceived, PermitReturned
from headrace.log.tables import TABLES
from headrace.messages import FlowCommand, Wake
from headrace.steering import (
    ConfirmPermit,
    GrantPermit,
    NotePermitQueued,
    NotePermitReceived,
    RefusePermit,
    ReleasePermit,
    RequestPermit,
    YieldPermit,
)
from headrace.testing.given import Then, given
from headrace.vocabulary import KEY_MOVED_PERMITS_MAX
from headrace_planner.flow.room import FlowRoom
from headrace_planner.flow.state import Flow

ROOM = FlowRoom()
KEY = ids.flow_key("default", "concurrency", "deploy")
RATE = ids.flow_key("default", "rate_limit", "github")
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
WEEK_MS = 7 * 24 * HOUR_MS
NOW = 1_000_000


def asks(number: int, **more: Any) -> RequestPermit:
    fields = {"kind": "concurrency", "key": "deploy", "limit": 1, **more}
    return RequestPermit(permit_id=f"p{number}", run_id=f"run_{number}", **fields)


def asked(number: int, **more: Any) -> PermitAsked:
    fields = {"kind": "concurrency", "key": "deploy", "limit": 1, **more}
    return PermitAsked(permit_id=f"p{number}", run_id=f"run_{number}", **fields)


def rate(count: int, limit: int = 10) -> dict[str, Any]:
    return {"kind": "rate_limit", "key": "github", "limit": limit, "period_ms": MINUTE_MS, "count": count}


def gave(number: int, count: int = 1) -> PermitGiven:
    return PermitGiven(permit_id=f"p{number}", count=count)


class After:
    """A key to which something has happened, all at NOW; commands are decided as the owner host does."""

    def __init__(self, *events: Event, stream: str) -> None:
        self.given = given(ROOM, *events, stream_id=stream, at=NOW)
        self.state: Flow = ROOM.initial(stream, "default")
        for event in events:
            self.state = ROOM.evolve(self.state, event, NOW)  # type: ignore[arg-type]  # events of this log

    def when(self, command: FlowCommand, now: int = NOW) -> Then:
        return self.given.when(command, now=now, advance=True)


def after(*events: Event, stream: str = KEY) -> After:
    return After(*events, stream=stream)


def row_of(state: Flow) -> dict[str, Any]:
    (row,) = ROOM.rows(state, None)
    return row.columns


def told(effects: Sequence[object], kind: type) -> list[Tell]:
    return [effect for effect in effects if isinstance(effect, Tell) and isinstance(effect.command, kind)]


def test_the_first_who_asks_holds_the_key_at_once_and_is_told_so() -> None:
    then = after().when(asks(1)).then(asked(1), gave(1))
    (tell,) = then.effects
    assert isinstance(tell, Tell)
    assert (tell.log, tell.stream_id) == ("runs", "run_1")
    assert tell.command == GrantPermit(permit_id="p1", count=1, flow_id=KEY)


def test_the_second_waits_and_learns_who_holds_the_key() -> None:
    then = after(asked(1), gave(1)).when(asks(2)).then(asked(2))
    assert [tell.command for tell in told(then.effects, NotePermitQueued)] == [
        NotePermitQueued(permit_id="p2", held_by=("run_1",))
    ]


def test_the_same_request_again_is_answered_again_and_changes_nothing() -> None:
    queued = after(asked(1), gave(1), asked(2)).when(asks(2)).then()
    assert len(told(queued.effects, NotePermitQueued)) == 1
    holding = after(asked(1), gave(1), PermitReceived(permit_id="p1")).when(asks(1)).then()
    assert len(told(holding.effects, GrantPermit)) == 1


def test_who_waits_is_served_when_the_key_comes_back_in_the_order_of_asking() -> None:
    history = (asked(1), gave(1), asked(2), asked(3))
    after(*history).when(ReleasePermit(permit_id="p1")).then(PermitReturned(permit_id="p1"), gave(2))


def test_a_higher_priority_is_served_first_and_equals_in_the_order_of_asking() -> None:
    history = (asked(1), gave(1), asked(2), asked(3, priority=5), asked(4, priority=5), asked(5, priority=-5))
    state = after(*history).when(ReleasePermit(permit_id="p1")).then(PermitReturned(permit_id="p1"), gave(3)).state
    assert list(state.waiting()) == ["p4", "p2", "p5"]


def test_who_asks_with_a_higher_priority_does_not_pass_a_key_that_is_taken() -> None:
    after(asked(1), gave(1)).when(asks(2, priority=100)).then(asked(2, priority=100))


def test_a_key_for_two_is_held_by_two() -> None:
    state = after(asked(1, limit=2), gave(1)).when(asks(2, limit=2)).then(asked(2, limit=2), gave(2)).state
    assert list(state.held) == ["p1", "p2"]
    after(asked(1, limit=2), gave(1), asked(2, limit=2), gave(2), stream=KEY).when(asks(3, limit=2)).then(
        asked(3, limit=2)
    )


def test_reject_is_answered_with_the_holder_and_leaves_no_trace() -> None:
    then = after(asked(1), gave(1)).when(asks(2, on_conflict="reject")).then()
    assert [tell.command for tell in told(then.effects, RefusePermit)] == [
        RefusePermit(permit_id="p2", held_by=("run_1",))
    ]
    after().when(asks(2, on_conflict="reject")).then(asked(2, on_conflict="reject"), gave(2))


def test_replace_lets_the_holder_and_those_before_make_room_and_goes_next() -> None:
    new = {"on_conflict": "replace"}
    history = (asked(1, **new), gave(1), asked(2, **new))
    then = after(*history).when(asks(3, **new))
    then.then(
        asked(3, **new),
        PermitRecalled(permit_id="p1", for_run="run_3"),
        PermitRecalled(permit_id="p2", for_run="run_3"),
    )
    assert [(tell.stream_id, tell.command) for tell in told(then.effects, YieldPermit)] == [
        ("run_1", YieldPermit(permit_id="p1", for_run="run_3", flow_id=KEY)),
        ("run_2", YieldPermit(permit_id="p2", for_run="run_3", flow_id=KEY)),
    ]
    after(*history, *then.events, stream=KEY).when(ReleasePermit(permit_id="p1")).then(
        PermitReturned(permit_id="p1"), gave(3)
    )


def test_who_makes_room_already_is_not_asked_again_and_nobody_more_than_needed() -> None:
    new = {"on_conflict": "replace"}
    three = (asked(1, **new), gave(1), asked(2, **new), PermitRecalled(permit_id="p1", for_run="run_2"))
    after(*three).when(asks(3, **new)).then(asked(3, **new), PermitRecalled(permit_id="p2", for_run="run_3"))
    two = {"on_conflict": "replace", "limit": 2}
    history = (asked(1, **two), gave(1), asked(2, **two), gave(2), PermitRecalled(permit_id="p1", for_run="run_9"))
    after(*history).when(asks(3, **two)).then(asked(3, **two))


def test_replace_on_a_key_for_two_lets_only_the_oldest_make_room() -> None:
    two = {"on_conflict": "replace", "limit": 2}
    after(asked(1, **two), gave(1), asked(2, **two), gave(2)).when(asks(3, **two)).then(
        asked(3, **two), PermitRecalled(permit_id="p1", for_run="run_3")
    )


def test_a_run_that_asks_no_longer_leaves_the_line() -> None:
    state = after(asked(1), gave(1), asked(2)).when(ReleasePermit(permit_id="p2")).state
    assert state.queued == 0
    after(asked(1), gave(1)).when(ReleasePermit(permit_id="p9")).then()


def test_what_a_run_was_given_is_said_again_until_it_is_on_record() -> None:
    history = (asked(1), gave(1))
    assert ROOM.wake_at(after(*history).state) == NOW + 2_000
    assert after(*history).when(Wake(), now=NOW + 1_999).then().effects == []
    again = after(*history).when(Wake(), now=NOW + 2_000).then()
    assert len(told(again.effects, GrantPermit)) == 1
    received = NotePermitReceived(permit_id="p1")
    state = after(*history).when(received, now=NOW + 2_500).then(PermitReceived(permit_id="p1")).state
    assert not row_of(state)["busy"]
    silent = after(*history, PermitReceived(permit_id="p1")).when(Wake(), now=NOW + 3_000).then()
    assert silent.effects == []
    after(*history, PermitReceived(permit_id="p1")).when(received, now=NOW + 3_000).then()


def test_who_shall_make_room_is_told_again_until_it_has_and_when_it_asks_itself() -> None:
    new = {"on_conflict": "replace"}
    history = (asked(1), gave(1), PermitReceived(permit_id="p1"), asked(2, **new))
    recalled = after(*history, PermitRecalled(permit_id="p1", for_run="run_2"))
    assert ROOM.wake_at(recalled.state) == NOW + 2_000
    assert recalled.when(Wake(), now=NOW + 1_999).then().effects == []
    told_again = recalled.when(Wake(), now=NOW + 2_000).then().effects
    asked_again = recalled.when(asks(1), now=NOW + 1).then().effects
    for effects in (told_again, asked_again):
        (tell,) = [effect for effect in effects if isinstance(effect, Tell)]
        assert tell.command == YieldPermit(permit_id="p1", for_run="run_2", flow_id=KEY)


def test_a_rate_limit_is_woken_when_it_has_room_for_who_waits() -> None:
    history = (asked(1, **rate(10)), gave(1, 10), PermitReceived(permit_id="p1"), asked(2, **rate(1)))
    assert ROOM.wake_at(after(*history, stream=RATE).state) == NOW + MINUTE_MS


def test_a_holder_is_asked_after_a_long_while_and_confirms() -> None:
    history = (asked(1), gave(1), PermitReceived(permit_id="p1"))
    assert ROOM.wake_at(after(*history).state) == NOW + 300_000
    late = after(*history).when(Wake(), now=NOW + 300_000).then()
    assert [tell.command for tell in told(late.effects, ConfirmPermit)] == [ConfirmPermit(permit_id="p1", flow_id=KEY)]
    confirmed = after(*history).when(NotePermitReceived(permit_id="p1"), now=NOW + 300_100)
    confirmed.then(PermitReceived(permit_id="p1"))
    assert ROOM.wake_at(confirmed.state) == NOW + 600_100


def test_a_holder_is_asked_sooner_while_somebody_waits() -> None:
    history = (asked(1), gave(1), PermitReceived(permit_id="p1"), asked(2))
    assert ROOM.wake_at(after(*history).state) == NOW + 20_000
    late = after(*history).when(Wake(), now=NOW + 20_000).then()
    assert len(told(late.effects, ConfirmPermit)) == 1
    after(*history).when(NotePermitReceived(permit_id="p1"), now=NOW + 19_000).then()
    after(*history).when(NotePermitReceived(permit_id="p1"), now=NOW + 20_100).then(PermitReceived(permit_id="p1"))


def test_a_rate_limit_lets_so_many_begin_in_any_period_and_no_more() -> None:
    begun = after(stream=RATE).when(asks(1, **rate(7))).then(asked(1, **rate(7)), gave(1, 7))
    some = after(*begun.events, stream=RATE).when(asks(2, **rate(7)), now=NOW + 1_000)
    some.then(asked(2, **rate(7)), gave(2, 3))
    (queued,) = told(some.effects, NotePermitQueued)
    assert queued.command == NotePermitQueued(permit_id="p2", until=NOW + MINUTE_MS)
    assert ROOM.wake_at(some.state) is not None
    early = after(*begun.events, *some.events, stream=RATE).when(Wake(), now=NOW + MINUTE_MS - 1)
    assert early.then().state.permits["p2"].given == 3
    later = after(*begun.events, *some.events, stream=RATE).when(Wake(), now=NOW + MINUTE_MS)
    later.then(gave(2, 4))
    assert told(later.effects, GrantPermit)[-1].command == GrantPermit(permit_id="p2", count=7, flow_id=RATE)


def test_requests_to_a_rate_limit_are_served_in_order_however_small() -> None:
    history = (asked(1, **rate(10)), gave(1, 10), asked(2, **rate(9)))
    state = after(*history, stream=RATE).when(asks(3, **rate(1)), now=NOW + 1).then(asked(3, **rate(1))).state
    assert list(state.waiting()) == ["p2", "p3"]
    served = after(*history, asked(3, **rate(1)), stream=RATE).when(Wake(), now=NOW + MINUTE_MS)
    served.then(gave(2, 9), gave(3, 1))
    newcomer = after(*history, stream=RATE).when(asks(3, **rate(1)), now=NOW + MINUTE_MS)
    newcomer.then(asked(3, **rate(1)), gave(2, 9), gave(3, 1))


def test_who_was_given_only_a_part_stays_first_in_line_for_the_rest() -> None:
    state = after(asked(1, **rate(4)), gave(1, 3), asked(2, **rate(1)), stream=RATE).state
    assert list(state.waiting()) == ["p1", "p2"]


def test_a_used_up_permit_of_a_rate_limit_is_forgotten_when_it_is_on_record() -> None:
    history = (asked(1, **rate(4)), gave(1, 4))
    state = after(*history, stream=RATE).when(NotePermitReceived(permit_id="p1", count=4)).state
    assert state.permits == {}
    assert state.free(10, MINUTE_MS, NOW) == 6


def test_a_receipt_for_less_than_was_given_is_not_one() -> None:
    history = (asked(1, **rate(4)), gave(1, 2), gave(1, 2))
    after(*history, stream=RATE).when(NotePermitReceived(permit_id="p1", count=2)).then()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "other"}, "other"),
        ({"limit": 0}, "limit of 0"),
        ({"on_conflict": "wait"}, "wait"),
        ({"count": 2}, "once"),
        ({"kind": "rate_limit"}, "0 ms"),
        ({"kind": "rate_limit", "period_ms": 5, "count": 0}, "for 0"),
    ],
)
def test_a_request_that_means_nothing_is_refused(wrong: dict[str, Any], says: str) -> None:
    after().when(asks(1, **wrong)).rejected(says)


def test_a_stream_is_one_key_for_ever() -> None:
    after(asked(1)).when(asks(2, key="another")).rejected("another")


def test_a_snapshot_brought_back_is_the_state_and_its_row_names_holders_and_queue() -> None:
    history = (asked(1), gave(1), asked(2, priority=3), asked(3), PermitRecalled(permit_id="p1", for_run="run_9"))
    state: Flow = after(*history).state
    assert ROOM.restore(ROOM.snapshot(state)) == state
    row = row_of(state)
    assert row.keys() == TABLES["flows"].columns.keys()
    assert (row["held"], row["queued"], row["key"]) == (1, 2, "deploy")
    assert [holder["run_id"] for holder in row["detail"]["holders"]] == ["run_1"]
    assert [waiting["run_id"] for waiting in row["detail"]["queue"]] == ["run_2", "run_3"]
    assert "run_1" in ROOM.explain(state)[0].message


def test_what_is_outstanding_is_what_runs_have_not_confirmed() -> None:
    state = after(asked(1), gave(1), asked(2), PermitRecalled(permit_id="p1", for_run="run_2")).state
    kinds = [type(effect.command) for effect in ROOM.outstanding(state, NOW) if isinstance(effect, Tell)]
    assert kinds == [GrantPermit, YieldPermit]
    assert row_of(state)["busy"]


def test_a_key_that_nobody_holds_ends_after_a_while_and_a_held_one_does_not() -> None:
    free = after(asked(1), gave(1), PermitReturned(permit_id="p1"))
    assert ROOM.wake_at(free.state) == NOW + HOUR_MS
    free.when(Wake(), now=NOW + HOUR_MS - 1).then()
    rested = free.when(Wake(), now=NOW + HOUR_MS).then(KeyEnded()).state
    assert ROOM.finished(rested)
    assert (ROOM.wake_at(rested), row_of(rested)["busy"], list(ROOM.heir(rested))) == (None, None, [])
    after(asked(1), gave(1)).when(Wake(), now=NOW + HOUR_MS).then()


def test_a_rate_limit_ends_only_when_its_period_is_over_too() -> None:
    slow = {"kind": "rate_limit", "key": "github", "limit": 5, "period_ms": 3 * HOUR_MS}
    used = after(asked(1, **slow), gave(1), PermitReceived(permit_id="p1"), stream=RATE)
    assert ROOM.wake_at(used.state) == NOW + 3 * HOUR_MS
    used.when(Wake(), now=NOW + 3 * HOUR_MS).then(KeyEnded())


def test_a_key_that_is_always_in_use_goes_on_in_a_new_stream_with_all_that_counts() -> None:
    stream = ids.use(KEY, NOW)
    history = (
        asked(1, on_conflict="replace"), gave(1), asked(2, priority=3), asked(3), asked(4),
        PermitRecalled(permit_id="p1", for_run="run_9"), PermitRecalled(permit_id="p4", for_run="run_9"),
    )  # fmt: skip
    key = after(*history, stream=stream)
    key.when(Wake(), now=NOW + WEEK_MS - 1).then()
    old = key.when(Wake(), now=NOW + WEEK_MS).then(KeyEnded(goes_on=True)).state
    assert ROOM.finished(old)
    assert (ROOM.wake_at(old), list(ROOM.outstanding(old, NOW + WEEK_MS))) == (None, []), "the next stream tells them"
    (begins,) = ROOM.heir(old)
    new = ROOM.evolve(ROOM.initial(ids.use(KEY, NOW + WEEK_MS), "default"), begins, NOW + WEEK_MS)
    assert new.address == KEY
    assert (new.permits, new.held, new.untold, new.recalled) == (old.permits, old.held, old.untold, old.recalled)
    assert list(new.waiting()) == list(old.waiting()) == ["p2", "p3"]
    assert not ROOM.finished(new)
    assert ROOM.decide(new, Wake(), Context(now=NOW + WEEK_MS, stream_id=new.id, workspace="default")) == ()


def test_a_rate_limit_goes_on_with_what_was_spent_and_whoever_waits_is_given_first() -> None:
    key = after(asked(1, **rate(7)), gave(1, 7), asked(2, **rate(9)), gave(2, 3), stream=ids.use(RATE, NOW))
    old = key.when(Wake(), now=NOW + WEEK_MS).then(gave(2, 6), KeyEnded(goes_on=True)).state
    (begins,) = ROOM.heir(old)
    new = ROOM.evolve(ROOM.initial(ids.use(RATE, NOW + WEEK_MS), "default"), begins, NOW + WEEK_MS)
    assert (new.spent, new.untold, new.period_ms) == ([(NOW + WEEK_MS, 6)], old.untold, MINUTE_MS)


def test_a_key_for_which_very_many_wait_goes_on_where_it_is() -> None:
    many = [asked(number) for number in range(KEY_MOVED_PERMITS_MAX + 1)]
    after(*many, gave(0), stream=ids.use(KEY, NOW)).when(Wake(), now=NOW + WEEK_MS).then()


def test_commands_travel_as_they_are() -> None:
    for command in (asks(1), NotePermitReceived(permit_id="p", count=3), ReleasePermit(permit_id="p"), Wake()):
        assert ROOM.read_command(msgspec.json.encode(command)) == command
