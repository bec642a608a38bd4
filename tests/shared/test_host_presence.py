"""What an owner knows of workers: only proven silence counts, and what a worker holds is its own until it says otherwise."""

from headrace.host.cadence import QUICK
from headrace.host.presence import PROBE_GAP_FACTOR, WORKERS_MAX, Presence
from headrace.host.stops import AGAIN_S, KEPT_S, STOPS_MAX, Stops
from headrace.testing.virtual import VirtualClock
from headrace.wire import Beat, Holding, Interrupt

LONGEST_S = QUICK.probe_s * PROBE_GAP_FACTOR


class Moved(VirtualClock):
    """A clock that the test moves."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Path:
    """The path of beats and probes, by hand."""

    def __init__(self) -> None:
        self.clock = Moved()
        self.presence = Presence(self.clock)
        self._probes = 0

    def beat(self, worker: str, *attempts: str, begun: bool = True, since: int = 0, leaving: bool = False) -> None:
        holding = tuple(Holding(attempt_id=each, tool="t", since=since, begun=begun) for each in attempts)
        self.presence.heard(
            Beat(
                worker=worker, service="s", host="h", pools=("p",), slots=3, holding=holding, at=5_000, leaving=leaving
            )
        )

    def listen(self, seconds: float, every: float = 1.0) -> None:
        """Let time pass while each probe comes back at once."""
        for _ in range(int(seconds / every)):
            self.clock.now += every
            self.probe()

    def probe(self) -> None:
        self._probes += 1
        self.presence.probe(f"{self._probes}")
        self.presence.probe_returned(f"{self._probes}")


def test_a_worker_is_lost_after_ten_seconds_of_silence_that_probes_prove() -> None:
    path = Path()
    path.probe()
    path.beat("wrk_1", "att_1")
    path.listen(9)
    assert (path.presence.silence("wrk_1"), path.presence.is_lost("wrk_1")) == (9.0, False)
    assert path.presence.pools() == {"p": 3}
    path.listen(1)
    assert path.presence.is_lost("wrk_1")
    assert (path.presence.holder("att_1"), path.presence.last_holder("att_1")) == (None, "wrk_1")
    assert (path.presence.live(), path.presence.pools()) == ([], {})
    path.beat("wrk_1", "att_1")
    assert path.presence.holder("att_1") == "wrk_1", "it lives"
    assert path.presence.silence("wrk_2") is None
    assert path.presence.is_lost("wrk_2")


def test_time_in_which_nothing_came_back_proves_no_silence() -> None:
    path = Path()
    path.probe()
    path.beat("wrk_1", "att_1")
    path.listen(5)
    path.clock.now += 3_600  # this process stood still, or the path was cut
    assert (path.presence.silence("wrk_1"), path.presence.silent_s("wrk_1")) == (5.0, 3_605.0)
    path.probe()
    assert path.presence.silence("wrk_1") == 0.0, "what was silent before may have spoken meanwhile"
    path.listen(9)
    assert not path.presence.is_lost("wrk_1")
    path.listen(4 * 2, every=LONGEST_S)
    assert path.presence.is_lost("wrk_1"), "so far apart probes may be"
    path.beat("wrk_1")
    path.listen(LONGEST_S * 3, every=LONGEST_S + 0.5)
    assert path.presence.silence("wrk_1") == 0.0, "so far apart they prove nothing"


def test_probes_that_come_back_late_out_of_order_or_never_prove_only_what_lies_between() -> None:
    path = Path()
    path.probe()
    path.beat("wrk_1")
    for nonce in ("a", "b", "c"):
        path.clock.now += 1
        path.presence.probe(nonce)
    path.presence.probe_returned("b")
    path.presence.probe_returned("a")
    assert path.presence.silence("wrk_1") == 2.0
    path.presence.probe_returned("a")
    path.presence.probe_returned("of another owner")
    assert path.presence.silence("wrk_1") == 2.0
    path.clock.now += LONGEST_S + 1
    path.presence.probe("later")
    path.presence.probe_returned("c")  # it was out for too long to say anything
    assert path.presence.silence("wrk_1") == 2.0


def test_an_attempt_is_held_by_who_said_so_last_and_let_go_by_its_holder_alone() -> None:
    path = Path()
    path.beat("wrk_1", "att_1")
    path.beat("wrk_2", "att_1", begun=False)
    path.beat("wrk_1")
    assert path.presence.holder("att_1") == "wrk_2"
    path.beat("wrk_2")
    assert (path.presence.last_holder("att_1"), path.presence.begun("att_1")) == (None, False)
    path.beat("wrk_1", "att_2", begun=False)
    assert not path.presence.begun("att_2")
    path.beat("wrk_1", "att_2")
    assert path.presence.begun("att_2")
    path.beat("wrk_unknown", "att_3", leaving=True)
    assert path.presence.worker("wrk_unknown") is None


def test_a_worker_that_came_back_keeps_what_it_still_holds() -> None:
    path = Path()
    path.probe()
    path.beat("wrk_1", "att_kept", "att_gone")
    path.presence.give_up("wrk_1")
    path.presence.give_up("wrk_nobody")
    path.beat("wrk_1", "att_kept")
    for _ in range(int(QUICK.forgotten_s) + 2):
        path.listen(1)
        path.beat("wrk_1", "att_kept")
    assert path.presence.holder("att_kept") == "wrk_1"
    assert path.presence.last_holder("att_gone") is None


def test_how_long_something_is_performed_is_told_of_what_was_begun_and_is_asked_for() -> None:
    path = Path()
    assert path.presence.performed_ms({"att_1"}) == 0
    path.beat("wrk_1", "att_1", "att_old", since=2_000)
    path.beat("wrk_2", "att_2", since=4_500)
    path.beat("wrk_3", "att_3", begun=False, since=1)
    path.clock.now += 1.5
    assert path.presence.performed_ms({"att_1", "att_2", "att_3"}) == 1 + 1_500 + 3_000
    assert path.presence.performed_ms({"att_2", "att_3"}) == 1 + 1_500 + 500
    assert path.presence.performed_ms({"att_3", "att_4"}) == 0
    path.probe()
    path.listen(10)
    path.beat("wrk_2", "att_2", since=4_500)
    assert path.presence.performed_ms({"att_1", "att_2"}) == 1 + 500, "who is lost performs nothing"


def test_workers_are_forgotten_on_demand_only_when_nothing_was_heard_of_them() -> None:
    path = Path()
    path.beat("wrk_1", "att_1")
    path.clock.now += 60
    path.beat("wrk_2", "att_2")
    path.presence.forget(["wrk_1", "wrk_2", "wrk_nobody"], 60)
    assert [seen.beat.worker for seen in path.presence.workers()] == ["wrk_2"]
    assert (path.presence.last_holder("att_1"), path.presence.last_holder("att_2")) == (None, "wrk_2")


def test_no_more_workers_are_known_than_there_is_memory_for_and_those_known_are_heard_on() -> None:
    path = Path()
    for number in range(WORKERS_MAX + 1):
        path.beat(f"wrk_{number}")
    assert len(path.presence.workers()) == WORKERS_MAX
    path.beat("wrk_0", "att_1")
    path.beat(f"wrk_{WORKERS_MAX}", "att_2")
    assert (path.presence.holder("att_1"), path.presence.holder("att_2")) == ("wrk_0", None)


def test_who_does_not_heed_a_stop_is_told_again_after_a_beat_and_then_after_each() -> None:
    path, stop = Path(), Interrupt(attempt_id="att_1", reason="cancelled")
    stops = Stops(path.clock)
    path.beat("wrk_1", "att_1")
    path.clock.now += 100
    stops.told("p", stop)
    for _ in range(2):
        path.clock.now += AGAIN_S - 0.1
        assert stops.unheeded(path.presence) == []
        path.clock.now += 0.1
        assert stops.unheeded(path.presence) == [("p", stop)]
    path.beat("wrk_1")
    path.clock.now += KEPT_S - 0.1
    assert (stops.unheeded(path.presence), len(stops)) == ([], 1)
    path.clock.now += 0.1
    assert (stops.unheeded(path.presence), len(stops)) == ([], 0)


def test_a_stop_in_a_pool_that_nobody_serves_is_kept_for_an_hour_and_of_very_many_the_last() -> None:
    path = Path()
    stops = Stops(path.clock)
    stops.told("p", Interrupt(attempt_id="att_1", reason="cancelled"))
    for _ in range(359):
        path.clock.now += 10
        stops.unheeded(path.presence)
    assert len(stops) == 1
    for _ in range(4):
        path.clock.now += 10
        stops.unheeded(path.presence)
    assert len(stops) == 0
    for number in range(STOPS_MAX + 1):
        stops.told("p", Interrupt(attempt_id=f"att_{number}", reason="cancelled"))
    assert len(stops) == STOPS_MAX
    path.beat("wrk_1", "att_0", f"att_{STOPS_MAX}")
    path.clock.now += AGAIN_S
    assert [stop.attempt_id for _, stop in stops.unheeded(path.presence)] == [f"att_{STOPS_MAX}"]
