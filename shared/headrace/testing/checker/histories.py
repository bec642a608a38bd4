"""Watches events one by one, in the order of their partitions, and says what may not be (FACTS C, invariant 4).

It knows the meaning of events from `docs/events.md` alone and shares no code with the deciders that write them.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec

from headrace import ids
from headrace.events.parts import parts_of
from headrace.log.port import Recorded
from headrace.testing.checker import flows
from headrace.testing.checker.history import Finding

HISTORY: Final = "history"
TERMINAL: Final = frozenset({"run.succeeded", "run.failed", "run.cancelled"})
AFTER_THE_END: Final = frozenset(
    {
        "attempt.late",
        "approval.resolved",
        "child.ended",
        "child.started",
        "permit.queued",
        "permit.granted",
        "permit.refused",
        "run.purged",
        "watch.confirmed",
    }
)
"""What may follow a run's terminal event: late news that changes nothing."""
OVER: Final = frozenset({"step.succeeded", "step.failed", "step.skipped", "step.reused"})
LOST_MAX: Final = 3
PLANS_KEPT: Final = 512
Instance = tuple[str, int, int | None]


class Plan:
    """What the checker reads of a plan: who needs whom, how often a step may be tried, what its tool does."""

    def __init__(self, body: bytes) -> None:
        plan = msgspec.json.decode(body)
        listed = [*plan.get("steps", ()), *plan.get("compensations", ())]
        self.steps: dict[str, dict[str, Any]] = {step["id"]: step for step in listed}
        self.tools: dict[str, dict[str, Any]] = plan.get("tools", {})
        self.shares_key = "concurrency" in plan

    def tool(self, step: str) -> dict[str, Any]:
        """Give the pinned tool of a step; empty for a step that no worker performs."""
        body = self.steps.get(step, {}).get("body", {})
        name = body.get("tool") or (f"gate.{body['gate']}" if "gate" in body else "")
        return self.tools.get(name, {})


@lru_cache(maxsize=PLANS_KEPT)
def _read(body: bytes) -> Plan:
    """Read a plan, once for all who watch."""
    return Plan(body)


class Watched:
    """A run as its events tell it."""

    def __init__(self, queued: dict[str, Any], plan: Plan | None) -> None:
        self.plan = plan
        self.queued = queued
        self.ended: str | None = None
        self.cancelling = False
        self.version = 0
        self.over: dict[Instance, str] = {}
        self.attempt: dict[Instance, int] = {}
        self.failed: Counter[Instance] = Counter()
        self.lost: Counter[Instance] = Counter()
        self.claimed: dict[str, Instance] = {}
        self.approved: set[str] = {""} if queued.get("authorized") else set()
        self.asked: dict[str, str] = {}
        self.resolved: dict[str, str] = {}
        self.settled: Counter[tuple[str, str]] = Counter()
        """How often a person, or the lost worker itself, gave each answer about a step's write."""
        self.spoken: set[str] = set()
        """Attempts of which that was said: each counts, also when another one failed since."""
        self.reports: set[str] = set()
        self.permit: str | None = None
        """What the run asked of its own concurrency key."""
        self.permits: set[str] = set()
        self.children: dict[str, str] = {}
        """How the steps ended that child runs performed."""
        self.undoing = False
        self.finished: list[str] = []
        """Steps that ended well, in order: what is undone is undone the other way round."""


class Watch:
    """All streams, as they grow. `body` gives a plan's bytes by digest, None when they are not at hand."""

    def __init__(self, body: Callable[[str], bytes | None]) -> None:
        self._body = body
        self._plans: dict[str, Plan | None] = {}
        self._last: dict[tuple[str, int], int] = {}
        self.watched: dict[str, Watched] = {}
        self.streams: dict[str, list[str]] = {}
        """The names of the events of every stream."""
        self.approvals: dict[str, dict[str, Any]] = {}
        self.taken_back: set[str] = set()
        """Approvals that their runs took back before they were open: in the end none of them may be."""
        self.flows: dict[str, flows.Key] = {}
        self.branches: Counter[str] = Counter()
        """How often each kind of event was seen: which branches of the product ran."""

    @property
    def runs(self) -> int:
        """Give how many runs there are."""
        return len(self.watched)

    @property
    def steps(self) -> int:
        """Give how many steps and items of maps have ended."""
        return sum(len(run.over) for run in self.watched.values())

    @property
    def seen(self) -> int:
        """Give how many events it has taken in."""
        return self.branches.total()

    def see(self, recorded: Recorded) -> list[Finding]:
        """Take the next event of its partition in."""
        place = (recorded.log, recorded.partition)
        names = self.streams.setdefault(recorded.stream_id, [])
        said: list[str] = []
        if recorded.position != self._last.get(place, 0) + 1:
            said.append(f"position {recorded.position} of {place} follows {self._last.get(place, 0)}")
        if recorded.version != len(names) + 1:
            said.append(f"version {recorded.version} follows {len(names)}")
        self._last[place] = recorded.position
        names.append(recorded.type)
        self.branches[recorded.type] += 1
        data = msgspec.json.decode(recorded.data)
        if recorded.log == "runs":
            said += self._run(recorded, data)
        elif recorded.log == "approvals":
            said += self._approval(recorded, data)
        elif recorded.log == "flow":
            said += flows.see(self.flows.setdefault(ids.address(recorded.stream_id), flows.Key()), recorded, data)
        return [
            Finding(HISTORY, f"{recorded.type} (version {recorded.version}): {one}", recorded.stream_id) for one in said
        ]

    # runs

    def _run(self, recorded: Recorded, data: dict[str, Any]) -> list[str]:
        run = self.watched.get(recorded.stream_id)
        if run is None:
            self.watched[recorded.stream_id] = run = Watched(data, self._plan(data.get("plan_digest", "")))
            run.version = 1
            return [] if recorded.type == "run.queued" else ["a run begins with run.queued"]
        run.version += 1
        if run.ended is not None and recorded.type not in AFTER_THE_END:
            return [f"it follows {run.ended}"]
        return [said for kind, part in parts_of(recorded.type, data) for said in self._event(run, kind, part)]

    def _event(self, run: Watched, kind: str, data: dict[str, Any]) -> Iterator[str]:
        if kind == "run.queued":
            yield "a run is created once"
        elif kind in TERMINAL:
            run.ended = kind
            yield from _unfinished(run, kind)
        elif kind == "run.cancel_requested":
            run.cancelling = True
        elif kind in OVER:
            yield from _over(run, kind, data)
        elif kind == "compensation.started":
            run.undoing = True
        elif kind == "permit.granted":
            run.permits.add(data["permit_id"])
        elif kind == "permit.requested" and not data.get("step"):
            run.permit = data["permit_id"]
        elif kind == "attempt.failed":
            yield from _attempt_failed(run, data)
        elif kind == "write.claimed":
            yield from _claimed(run, data)
        elif kind == "approval.requested":
            run.asked[data["approval_id"]] = data.get("step", "")
        elif kind == "approval.resolved":
            yield from self._resolved(run, data)
        elif kind == "outcome.settled":
            run.settled[data["step"], data["answer"]] += 1
            run.spoken.add(data.get("attempt_id", ""))

    def _resolved(self, run: Watched, data: dict[str, Any]) -> Iterator[str]:
        approval, status = data["approval_id"], data["status"]
        if approval not in run.asked:
            yield f"nobody asked for {approval}"
        if approval in run.resolved:
            yield f"{approval} was resolved before, as {run.resolved[approval]}"
        run.resolved[approval] = status
        if status == "approved":
            run.approved.add(data.get("step", ""))
        known = self.approvals.get(approval)
        if status == "superseded" and (known is None or known["closed"] is None):
            self.taken_back.add(approval)  # before it was ever opened; should it open late, it is taken back again
            return
        if known is None or known["closed"] != status:
            known = known or {}
            yield f"{approval} is {known.get('closed') or 'open'} in its own log, not {status}"

    def _plan(self, digest: str) -> Plan | None:
        if digest not in self._plans:
            body = self._body(digest)
            self._plans[digest] = None if body is None else _read(body)
        return self._plans[digest]

    # approvals

    def _approval(self, recorded: Recorded, data: dict[str, Any]) -> Iterator[str]:
        known = self.approvals.get(recorded.stream_id)
        kind = recorded.type
        if known is None:
            self.approvals[recorded.stream_id] = {**data, "by": [], "closed": None}
            if kind != "approval.opened":
                yield "an approval begins with approval.opened"
            return
        match kind:
            case "approval.opened":
                yield "an approval is opened once"
            case "approval.decided":
                yield from _decided(known, data)
            case "approval.closed":
                if known["closed"] is not None:
                    yield f"it was closed before, as {known['closed']}"
                known["closed"] = data["status"]
                approvers = {by for by, action in known["by"] if action == "approve"}
                if data["status"] == "approved" and len(approvers) < known.get("quorum", 1):
                    yield f"approved by {len(approvers)} of {known.get('quorum', 1)}"
            case _:
                if known["closed"] is None:
                    yield "its outcome was received before there was one"


def _decided(known: dict[str, Any], data: dict[str, Any]) -> Iterator[str]:
    who = data["by"]["id"]
    if known["closed"] is not None:
        yield f"{who} decides after it was closed"
    if who in {by for by, _ in known["by"]}:
        yield f"{who} decides twice"
    if who == known["requester"]["id"]:
        yield f"{who} decides on their own request"
    if data["digest"] != known["digest"]:
        yield f"{who} decided on {data['digest']}, not on what was shown"
    known["by"].append((who, data["action"]))


def _instance(data: dict[str, Any]) -> Instance:
    return data["step"], data.get("iteration", 0), data.get("index")


def _unfinished(run: Watched, kind: str) -> Iterator[str]:
    """A run succeeds when every step of its plan is over, and none failed it."""
    if kind != "run.succeeded" or run.plan is None:
        return
    ended = {step for step, _, index in run.over if index is None}
    for step, known in run.plan.steps.items():
        if step not in ended and not known.get("parent") and not known.get("compensates"):
            yield f"step {step} is not over"


def _over(run: Watched, kind: str, data: dict[str, Any]) -> Iterator[str]:
    instance = _instance(data)
    if instance in run.over:
        yield f"{instance} ended before, by {run.over[instance]}"
    run.over[instance] = kind
    attempt_id = data.get("attempt_id")
    if attempt_id is not None:
        run.reports.add(attempt_id)
    if data.get("child_id"):
        run.children[data["child_id"]] = kind
    current = run.attempt.get(instance, 1)
    counts = attempt_id is None or attempt_id in run.spoken or data.get("attempt", 1) == current
    if kind == "step.succeeded" and not counts:
        yield f"attempt {data.get('attempt', 1)} of {instance} counts, but the current one is {current}"
    if kind == "step.succeeded" and instance[2] is None:
        run.finished.append(instance[0])
    if run.plan is None or instance[0] not in run.plan.steps:
        return
    if run.plan.shares_key and attempt_id is not None and run.permit not in run.permits:
        yield f"{instance} was performed before the run held its concurrency key"
    if kind == "step.succeeded":
        acts = run.plan.tool(instance[0]).get("effect", "read") != "read"
        if acts and attempt_id is not None and attempt_id not in run.claimed:
            yield f"{instance} acts on the world and was never claimed"
        yield from _needs(run, instance)


def _needs(run: Watched, instance: Instance) -> Iterator[str]:
    assert run.plan is not None, "only what has a plan has needs"
    step = run.plan.steps[instance[0]]
    if step.get("parent") or step.get("compensates"):
        return
    for need in step.get("needs", ()):
        if not any(known == need and index is None for known, _, index in run.over):
            yield f"{instance} began before {need} was over"


def _attempt_failed(run: Watched, data: dict[str, Any]) -> Iterator[str]:
    instance = _instance(data)
    current = run.attempt.get(instance, 1)
    if instance in run.over:
        yield f"{instance} was over"
    if data["attempt"] != current:
        yield f"attempt {data['attempt']} of {instance} failed, but the current one is {current}"
    run.attempt[instance] = data["attempt"] + 1
    if data["status"] == "lost":
        run.lost[instance] += 1
        if run.lost[instance] >= LOST_MAX and not run.settled[instance[0], "not_happened"]:
            yield f"{instance} is tried again although {LOST_MAX} attempts were lost"
        return
    if data["status"] == "cancelled":
        return  # handed back by a worker that left: not one of those that the step's retry allows
    run.failed[instance] += 1
    if run.plan is not None and instance[0] in run.plan.steps:
        most = run.plan.steps[instance[0]].get("retry", {}).get("max_attempts", 1)
        if run.failed[instance] >= most:
            yield f"{instance} is tried again after {run.failed[instance]} of {most} attempts failed"


def _in_turn(run: Watched, instance: Instance) -> Iterator[str]:
    """What is undone is undone in turn: whatever ended after it is undone before it."""
    assert run.plan is not None, "only a plan says what undoes what"
    ended = {step for step, _, index in run.over if index is None}
    undone = run.plan.steps[instance[0]]["compensates"]
    place = run.finished.index(undone) if undone in run.finished else 0
    for step in run.finished[place + 1 :]:
        undoing = f"{step}.compensate"
        if undoing in run.plan.steps and undoing not in ended:
            yield f"{instance} began before {undoing} was over"


def _claimed(run: Watched, data: dict[str, Any]) -> Iterator[str]:
    instance, attempt_id = _instance(data), data["attempt_id"]
    if attempt_id in run.claimed:
        yield f"{attempt_id} was granted before"
    run.claimed[attempt_id] = instance
    if instance in run.over:
        yield f"{instance} was over"
    if data["attempt"] != run.attempt.get(instance, 1):
        yield f"attempt {data['attempt']} of {instance} may act, but the current one is {run.attempt.get(instance, 1)}"
    undoes = run.plan is not None and "compensates" in run.plan.steps.get(instance[0], ())
    if undoes and run.undoing:
        yield from _in_turn(run, instance)
    elif run.cancelling:
        yield f"{instance} may act although the run is being cancelled"
    elif run.undoing:
        yield f"{instance} may act although what the run did is being undone"
    if run.plan is None or instance[0] not in run.plan.steps:
        return
    step = run.plan.steps[instance[0]]
    covers = {"", *step.get("covered_by", ()), *([instance[0]] if step.get("confirm") else ())}
    if run.plan.tool(instance[0]).get("access") == "gated" and not covers & run.approved:
        yield f"{instance} may act although nobody approved it"
    yield from _needs(run, instance)
