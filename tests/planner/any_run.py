"""A run of any shape whose workers, people and clock do anything, and what must hold of it in the end."""

import random
from collections import Counter
from typing import Any

import msgspec

from headrace import codec, ids
from headrace.decider import Rejection
from headrace.events.base import ErrorInfo, RateLimit
from headrace.events.runs import StepFailed, StepSucceeded
from headrace.events.steering import OutcomeLost, OutcomeSettled
from headrace.messages import CancelRun, ClaimWrite, LoseAttempt, ReportAttempt, RunCommand, Wake
from headrace.plans.model import ArtifactSpec, LoopStep, Plan, PlanStep, Retry, ToolPin, WaitStep
from headrace.steering import DropAttempt, GrantPermit, OverdueAttempt, PauseRun, ResumeRun, SettleOutcome
from headrace_api.effects import Effects
from headrace_planner.runs.kept import Try
from headrace_planner.runs.state import Instance
from tests.planner.runs_kit import READ, Sim, call, step

ACTS = ToolPin(version="1", digest="sha256:a", effect="write", access="auto", pool="runner", idempotent=False)
KEYED = ToolPin(version="1", digest="sha256:i", effect="write", access="auto", pool="runner", idempotent=True)
RATED = msgspec.structs.replace(KEYED, rate_limit=RateLimit(limit=2, period_s=60))
TOOLS = {"acts": ACTS, "keyed": KEYED, "read": READ, "rated": RATED}
ANSWERS = ("happened", "not_happened", "give_up")
TURNS_MAX = 30
DRAIN_MAX = 600
TIMED_OUT_UNDOING = "compensation timeout"


def any_plan(chance: random.Random) -> Plan:
    """Make a plan of a few steps: maps, a loop, retries, limits of time, what may fail, what is undone."""
    steps: list[PlanStep] = []
    undoes: list[PlanStep] = []
    body: list[str] = []
    loops = chance.random() < 0.25
    for number in range(chance.randint(1, 4)):
        inner = loops and chance.random() < 0.6
        needs = [known.id for known in steps if bool(known.parent) == inner and chance.random() < 0.4]
        parent: dict[str, Any] = {"parent": "again"} if inner else {}
        made = _any_step(chance, f"s{number}", needs, parent)
        steps.append(made)
        body += [made.id] if inner else []
        if getattr(made.body, "tool", "read") != "read" and chance.random() < 0.55:
            retry = Retry(max_attempts=chance.choice([1, 1, 2]), initial_s=0)
            tool = chance.choice(["acts", "keyed", "keyed"])
            undoes.append(call(f"{made.id}.compensate", tool=tool, compensates=made.id, retry=retry))
    if body:
        steps.append(step("again", LoopStep(condition="iteration < 2", body=tuple(body), cap=5)))
    timeout_s = chance.choice([1800, 300])
    return Plan(
        name="d", kind="Workflow", steps=tuple(steps), tools=TOOLS, compensations=tuple(undoes), timeout_s=timeout_s
    )


def _any_step(chance: random.Random, name: str, needs: list[str], more: dict[str, Any]) -> PlanStep:
    def some(share: float, **fields: Any) -> None:
        if chance.random() < share:
            more.update(fields)

    if chance.random() < 0.12:
        return step(name, WaitStep(seconds=20.0), *needs, **more)
    some(0.5, retry=Retry(max_attempts=chance.randint(2, 3), initial_s=chance.choice([0, 0, 5, 60])))
    if chance.random() < 0.4:
        more["items"] = list(range(chance.randint(1, 4)))
        some(0.3, on_item_error="collect")
        some(0.3, concurrency=1)
    some(0.25, step_timeout_s=40)
    some(0.15, queue_timeout_s=30)
    some(0.25, on_error="continue")
    some(0.12, artifacts=(ArtifactSpec(type="url", label="l", value="{{ output.link }}"),))
    return call(name, *needs, tool=chance.choice(["acts", "keyed", "keyed", "rated", "read"]), **more)


class AnyRun:
    """One such run, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311  (a test's own dice)
        self.plan = any_plan(self.chance)
        self.sim = Sim(self.plan).create()
        self.said: list[ReportAttempt] = []
        self.claims = 0

    def live(self) -> None:
        """Let things happen, then let it come to its end, and judge it."""
        for _ in range(self.chance.randint(3, TURNS_MAX)):
            if not self.sim.run.final:
                self._turn()
        self._drain()
        self._judge()

    def _open(self) -> list[tuple[Instance, Try]]:
        found = ((instance, self.sim.run.trial(instance)) for instance in self.sim.run.under_way())
        return [(instance, trial) for instance, trial in found if trial is not None]

    def _order(self, instance: Instance, trial: Try) -> Any:
        attempt_id = self.sim.run.attempt_id(instance, trial.attempt)
        return next((each.order for each in self.sim.dispatched if each.order.attempt_id == attempt_id), None)

    def _do(self, command: RunCommand) -> None:
        self.sim.do(command)
        self.sim.room.explain(self.sim.run)

    def _turn(self) -> None:
        chance, sim, going = self.chance, self.sim, self._open()
        out = [each for each in going if not each[1].idle and self._order(*each)]
        unknown = [instance for instance, trial in going if trial.unknown]
        roll = chance.random()
        if roll < 0.1:
            self._grant()
        elif roll < 0.75 and out:
            self._work(*chance.choice(out))
        elif roll < 0.81 and unknown:
            self._settle(chance.choice(unknown))
        elif roll < 0.86 and self.said:
            self._do(chance.choice(self.said))
        elif roll < 0.89 and sim.dispatched:
            self._stray()
        elif roll < 0.93:
            steering: list[RunCommand] = [CancelRun(reason="x"), PauseRun(), PauseRun(), ResumeRun(), ResumeRun()]
            self._do(chance.choice(steering))
        else:
            sim.later(chance.choice([1, 5, 12, 41, 61]))
            self._do(Wake())

    def _work(self, instance: Instance, trial: Try) -> None:
        """Let the worker of an attempt claim it, say something of it, or be found silent by its owner."""
        chance, run = self.chance, self.sim.run
        if run.graph.claims(instance[0]) and trial.nonce is None and chance.random() < 0.7:
            self._claim(instance, trial)
            return
        kind = chance.choice(["succeeded", "succeeded", "failed", "timed_out", "cancelled", "lost", "overdue", "drop"])
        attempt_id, worker = run.attempt_id(instance, trial.attempt), trial.claimed_by or "wrk_1"
        step_id, index, attempt = *instance, trial.attempt
        match kind:
            case "lost":
                self._do(LoseAttempt(step=step_id, index=index, attempt=attempt, attempt_id=attempt_id, worker=worker))
            case "overdue":
                self._do(
                    OverdueAttempt(step=step_id, index=index, attempt=attempt, attempt_id=attempt_id, worker=worker)
                )
            case "drop":
                self._do(DropAttempt(step=step_id, index=index, attempt=attempt, attempt_id=attempt_id))
            case _:
                self._report(instance, trial, kind)

    def _claim(self, instance: Instance, trial: Try) -> None:
        order = self._order(instance, trial)
        self.claims += 1
        self._do(
            ClaimWrite(
                run_id=self.sim.id, step=instance[0], index=instance[1], attempt=trial.attempt,
                attempt_id=order.attempt_id, nonce=f"n{self.claims}", arguments_digest=order.arguments_digest,
                worker=self.chance.choice(["wrk_1", "wrk_2"]),
            )
        )  # fmt: skip

    def _report(self, instance: Instance, trial: Try, status: str) -> None:
        chance, sim = self.chance, self.sim
        kind = {"timed_out": "timeout", "cancelled": "worker_lost"}.get(status) or chance.choice(
            ["tool_error", "upstream_error", "timeout", "validation_error"]
        )
        acted = status == "failed" and trial.nonce is not None and chance.random() < 0.2
        error = ErrorInfo(type=kind, message="m", details={"outcome": "happened"} if acted else {})
        said = ReportAttempt(
            run_id=sim.id, step=instance[0], index=instance[1], attempt=trial.attempt,
            attempt_id=sim.run.attempt_id(instance, trial.attempt), status=status, worker=trial.claimed_by or "wrk_1",
            output=codec.raw({"id": 1, "link": "x"} if chance.random() < 0.8 else {"id": 1}),
            error=None if status == "succeeded" else error, started_at=sim.now, finished_at=sim.now,
            retryable=chance.random() < 0.8,
        )  # fmt: skip
        self.said.append(said)
        self._do(said)

    def _stray(self) -> None:
        """Let a worker say something of an attempt that may be long over, or another's."""
        order = self.chance.choice(self.sim.dispatched).order
        self._do(
            ReportAttempt(
                run_id=self.sim.id, step=order.step, index=order.index, attempt=order.attempt,
                attempt_id=order.attempt_id, status=self.chance.choice(["succeeded", "failed", "timed_out"]),
                worker=self.chance.choice(["wrk_1", "wrk_2"]), output=codec.raw({"id": 2}),
                error=ErrorInfo(type="tool_error", message="late"),
            )
        )  # fmt: skip

    def _settle(self, instance: Instance) -> None:
        answer = self.chance.choice(ANSWERS)
        output = codec.raw({"link": 1} if answer == "happened" else None)
        self._do(SettleOutcome(step=instance[0], index=instance[1], answer=answer, output=output))

    def _grant(self) -> bool:
        for permit_id, known in list(self.sim.run.data.permits.items()):
            if known.granted < known.count:
                self._do(GrantPermit(permit_id=permit_id, flow_id=known.flow_id, count=known.count))
                return True
        return False

    def _drain(self) -> None:
        """Let everybody do what is asked of them until the run is over: it must end."""
        for _ in range(DRAIN_MAX):
            if self.sim.run.final:
                return
            if self.sim.run.data.paused is not None:
                self._do(ResumeRun())
                assert not isinstance(self.sim.last, Rejection), "a run that is paused can be resumed"
            elif not self._finish_one() and not self._grant():
                at = self.sim.room.wake_at(self.sim.run)
                assert at is not None, "nothing is under way, and nothing is due"
                self.sim.now = max(at, self.sim.now + 1)
                self._do(Wake())
        assert self.sim.run.final, "it does not end"

    def _finish_one(self) -> bool:
        for instance, trial in self._open():
            if trial.unknown is not None:
                self._settle(instance)
                return True
            if trial.idle:
                continue
            assert self._order(instance, trial) is not None, f"{instance} is under way and was never ordered"
            stands = self.sim.run.stands(instance[0])
            if stands and self.sim.run.graph.claims(instance[0]) and trial.nonce is None:
                self._claim(instance, trial)
            self._report(instance, trial, "succeeded" if stands else "cancelled")
            return True
        return False

    def _judge(self) -> None:
        told = Effects(self.sim.id, self.plan, 10_000)
        told.read([(number, at, event) for number, (event, at) in enumerate(self.sim.history, 1)])
        outcomes: dict[str, list[str]] = {}
        for each in told.listed:
            outcomes.setdefault(each["instance"], []).append(each["outcome"])
        self._judge_doubts(outcomes)
        if self.sim.status != "succeeded" and TIMED_OUT_UNDOING not in self.sim.why():
            self._judge_undoing()

    def _judge_doubts(self, outcomes: dict[str, list[str]]) -> None:
        """What effects leave unknown is named as in doubt, once, and nothing else is; what may be undone was asked about."""
        events = [part for event, _ in self.sim.history for part in event.parts]
        asked = {_label(each) for each in events if isinstance(each, OutcomeLost)}
        settled = {_label(each): each.answer for each in events if isinstance(each, OutcomeSettled)}
        named = Counter(self.sim.run.data.doubts)
        assert all(count == 1 for count in named.values()), named
        for name, known in outcomes.items():
            assert "under_way" not in known, f"{name} is under way in a run that is over"
            cleared = "done" in known or settled.get(name) in {"not_happened", "happened"}
            assert "unknown" not in known or cleared or name in named, f"{name} is unknown ({known}) and in no doubt"
        for name in named:
            assert {"unknown", "given_up"} & set(outcomes.get(name, ())), f"{name} is in doubt: {outcomes.get(name)}"
            step_id = name.partition("[")[0].partition("#")[0]
            whole = self.sim.run.graph.index[step_id]
            ends_anyway = whole.is_map and whole.on_error == "continue"
            timed_out = self.sim.status != "succeeded" and TIMED_OUT_UNDOING in self.sim.why()
            if step_id in self.sim.run.graph.undo and self.sim.status != "succeeded" and not ends_anyway:
                assert name in asked or timed_out, f"{name} may have to be undone, and nobody was asked"

    def _judge_undoing(self) -> None:
        """All that was done is undone, once."""
        events = [part for event, _ in self.sim.history for part in event.parts]
        done = Counter(each.step for each in events if isinstance(each, StepSucceeded) and each.attempt_id)
        tried = [each for each in events if isinstance(each, StepSucceeded | StepFailed) and each.attempt_id]
        ended = Counter(each.step for each in tried)
        for step_id, undoing in self.sim.run.graph.undo.items():
            assert done[step_id] == ended[undoing], f"{step_id}: done {done[step_id]}, undone {ended[undoing]} times"


def _label(event: Any) -> str:
    return ids.instance(event.step, event.index, event.iteration)
