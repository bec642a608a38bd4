"""What is said of a run's steps while workers perform them, fall silent, come back, or drain."""

from typing import Any

from headrace import codec
from headrace.clock import SystemClock
from headrace.keys import POOL, Keys
from headrace.log.tables import TABLES
from headrace.plans.model import CallStep, Plan, PlanStep, ToolPin
from headrace.wire import Beat, Blocked, Holding
from headrace_api.explaining import explain
from headrace_api.performing import Performed, with_performed
from headrace_api.presence import Presence

KEYS = Keys(master=b"k" * 32)
RUN = "run_1"
PIN = ToolPin(version="1", digest="sha256:a", effect="read", access="auto", pool="tools", idempotent=True)
PLAN = Plan(
    name="p",
    kind="Workflow",
    steps=(PlanStep(id="nap", kind="tool", body=CallStep(tool="nap")),),
    compensations=(PlanStep(id="nap.compensate", kind="tool", body=CallStep(tool="nap")),),
    tools={"nap": PIN},
)
BLANK: dict[str, Any] = dict.fromkeys(TABLES["steps"].columns)


class Moved(SystemClock):
    """A clock that the test moves."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Place:
    """A run with one step that is handed to a pool, and what workers say."""

    def __init__(self) -> None:
        self.clock = Moved()
        self.presence = Presence(self.clock, KEYS)
        self.tried: list[dict[str, Any]] = []
        self.waiting: list[dict[str, Any]] = []
        self.more: list[dict[str, Any]] = []
        self.status, self.cancelling = "queued", False

    def beat(
        self, worker: str, *attempts: str, begun: bool = True, draining: bool = False, blocked: Blocked | None = None
    ) -> None:
        holding = tuple(
            Holding(attempt_id=each, tool="nap", since=1, run_id=RUN, step="nap", begun=begun) for each in attempts
        )
        beat = Beat(
            worker=worker, service="w", host="h", pools=("tools",), slots=2, holding=holding, draining=draining,
            blocked=blocked,
        )  # fmt: skip
        self.presence.deliver(KEYS.pack(POOL + "tools", codec.encode(beat)))

    @property
    def step(self) -> dict[str, Any]:
        return {**BLANK, "step": "nap", "status": self.status, "attempt": 1, "detail": {"attempts": self.tried}}

    def reasons(self) -> list[tuple[str, str]]:
        row = {"id": RUN, "status": "running", "cancel_requested": self.cancelling, "requester_name": "ann"}
        steps = [self.step, *self.more]
        found = explain({**row, "detail": {"waiting": self.waiting}}, steps, PLAN, self.presence, {})
        return [(each["message"], each["remedy"]) for each in found]

    def shown(self) -> Any:
        return with_performed([self.step], self.presence, RUN)[0]


def test_a_step_that_a_worker_performs_is_running_there_since_then() -> None:
    place = Place()
    assert place.shown()["status"] == "queued"
    place.beat("wrk_1", "att_1", begun=False)
    assert place.shown()["status"] == "queued"
    place.beat("wrk_1", "att_1")
    shown = place.shown()
    assert (shown["status"], shown["worker"], shown["attempt_id"], shown["started_at"]) == (
        "running",
        "wrk_1",
        "att_1",
        1,
    )


def test_a_worker_of_which_nothing_is_heard_is_not_said_to_perform_anything() -> None:
    place = Place()
    place.beat("wrk_1", "att_1")
    place.clock.ahead_s += 11
    assert place.shown()["status"] == "queued"
    told = dict(place.reasons())
    assert not any("is performed" in message for message in told)
    (silent,) = (message for message in told if message.startswith("step nap is with worker wrk_1, of which nothing"))
    assert "`headrace workers rescue wrk_1`" in told[silent]


def test_a_lost_attempt_is_not_spoken_of_once_another_is_performed() -> None:
    place = Place()
    place.beat("wrk_1", "att_1")
    place.clock.ahead_s += 11
    place.tried.append({"attempt_id": "att_1", "status": "lost"})
    place.beat("wrk_2", "att_2")
    ((message, _),) = place.reasons()
    assert message.startswith("step nap is performed by worker wrk_2 ")
    assert "attempts in all" not in message


def test_a_silent_worker_is_not_spoken_of_when_the_step_waits_for_a_person() -> None:
    place = Place()
    place.beat("wrk_1", "att_1")
    place.clock.ahead_s += 11
    place.waiting.append({"step": "nap", "for": "input", "message": "somebody must look"})
    assert not any("wrk_1" in message for message, _ in place.reasons())


def test_a_pool_whose_workers_drain_says_so_and_how_they_go_on() -> None:
    place = Place()
    place.beat("wrk_1", draining=True)
    told = dict(place.reasons())
    assert told["no worker takes work of the pool 'tools': worker wrk_1 drains"].startswith(
        "`headrace workers resume wrk_1`; or start one: `headrace worker tools.py`"
    )


def test_a_run_that_came_without_workers_is_running_once_one_performs_it() -> None:
    place = Place()
    row: dict[str, Any] = {"id": RUN, "status": "queued", "started_at": None}
    place.beat("wrk_1", "att_1", begun=False)
    assert Performed(place.presence).shown(row) == row
    place.beat("wrk_1", "att_1")
    assert Performed(place.presence).shown(row) == {"id": RUN, "status": "running", "started_at": 1}
    other = {**row, "id": "run_2"}
    assert Performed(place.presence).shown(other) == other
    place.clock.ahead_s += 11
    assert Performed(place.presence).shown(row) == row


def test_one_answer_shows_its_runs_as_they_stood_at_one_look() -> None:
    place = Place()
    place.beat("wrk_1", "att_1", "att_2")
    one_answer = Performed(place.presence)
    row: dict[str, Any] = {"id": RUN, "status": "queued", "started_at": None}
    assert one_answer.shown(row)["status"] == "running"
    place.clock.ahead_s += 11
    assert one_answer.shown(row)["status"] == "running"
    assert Performed(place.presence).shown(row) == row


def test_a_step_that_is_over_is_not_said_to_be_performed_until_its_worker_beats_again() -> None:
    place = Place()
    place.beat("wrk_1", "att_1")
    place.status = "cancelled"
    assert not any("is performed" in message for message, _ in place.reasons())


def test_while_a_cancelled_run_is_undone_nothing_is_said_to_be_over_within_seconds() -> None:
    place = Place()
    place.status, place.cancelling = "succeeded", True
    place.more = [{**BLANK, "step": "nap.compensate", "status": "queued", "detail": {}}]
    told = dict(place.reasons())
    assert "a cancel was asked for; what its steps did is being undone, nap now" in told
    assert not any("within seconds" in remedy for remedy in told.values())
    assert any(message.startswith("no worker serves the pool 'tools'") for message in told)
    place.beat("wrk_1")
    assert not any(message.startswith("no worker serves") for message, _ in place.reasons())


def test_what_undoes_a_step_stands_in_line_for_its_pool_like_any_other_step() -> None:
    place = Place()
    place.status = "succeeded"
    place.more = [{**BLANK, "step": "nap.compensate", "status": "queued", "detail": {}}]
    place.beat("wrk_1")
    told = [message for message, _ in place.reasons()]
    assert told[0] == "what its steps did is being undone, nap now"
    assert told[1].startswith("step nap.compensate was handed to the pool 'tools' (1 worker, 0 of 2 slots taken)")


def test_what_waits_for_a_persons_word_is_not_said_to_end_by_itself() -> None:
    place = Place()
    place.beat("wrk_1")
    place.status, place.cancelling = "waiting", True
    place.waiting = [{"step": "nap", "for": "input", "message": "somebody must look"}]
    assert dict(place.reasons())["a cancel was asked for: it ends once that is known"] == "nothing to do but to say so"
    place.status, place.cancelling = "succeeded", False
    place.more = [{**BLANK, "step": "nap.compensate", "status": "waiting", "detail": {}}]
    place.waiting[0]["step"] = "nap.compensate"
    assert dict(place.reasons())["what its steps did is being undone, nap now"] == "nothing to do but to say so"


def test_a_step_that_only_a_blocked_worker_could_take_names_it() -> None:
    place = Place()
    place.beat("wrk_1", blocked=Blocked(since=1, tool="sleepy", attempt_id="att_9"))
    ((message, remedy),) = place.reasons()
    assert "wrk_1" in message
    assert "by the tool sleepy (attempt att_9)" in message
    assert "another worker" in remedy


def test_a_running_map_whose_pool_nobody_serves_is_not_said_to_run() -> None:
    place = Place()
    place.status = "running"
    ((message, _),) = place.reasons()
    assert message.startswith("no worker serves the pool 'tools'")


def test_a_map_that_runs_says_how_many_of_its_items_are_over() -> None:
    place = Place()
    place.beat("wrk_1")
    place.more = [{**BLANK, "step": "m", "status": "running", "attempt": 0, "items_total": 5, "items_done": 2}]
    assert ("step m runs: 2 of 5 items are over", "nothing to do") in place.reasons()


def test_a_paused_run_tries_again_only_when_it_goes_on() -> None:
    place = Place()
    place.status = "waiting"
    place.tried.append({"attempt_id": "att_1", "error": {"type": "upstream_error", "message": "503"}})
    place.waiting = [
        {"for": "resume", "message": "paused by ann"},
        {"step": "nap", "for": "retry", "until": 1, "message": "attempt 2"},
    ]
    retry = next(message for message, _ in place.reasons() if "tried again" in message)
    assert retry.startswith(
        "step nap failed (upstream_error: 503) and is tried again when the run goes on, not before "
    )
