"""What clients, the outside and readers were promised, held against the log (FACTS C, invariants 1, 2, 6, 7)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from headrace.log.port import Recorded
from headrace.testing.checker.histories import Watch
from headrace.testing.checker.history import Asked, Finding, History

OPEN: Final = ("queued", "running", "waiting")
OUTSIDE: Final = frozenset({"start", "signal", "event", "input", "connection", "resume"})
"""What only somebody outside can bring: waiting for it is no fault of ours."""
CLOCKED: Final = frozenset({"timer", "retry", "rate_limit"})
EVIDENCE: Final[Mapping[str, frozenset[str]]] = {
    "create_run": frozenset({"run.queued"}),
    "cancel_run": frozenset({"run.cancel_requested", "run.cancelled"}),
    "start_run": frozenset({"run.started"}),
    "pause_run": frozenset({"run.paused"}),
    "resume_run": frozenset({"run.resumed"}),
    "signal_run": frozenset({"signal.received"}),
    "settle_outcome": frozenset({"outcome.settled"}),
    "purge_run": frozenset({"run.purged"}),
    "record_plan": frozenset({"plan.recorded"}),
    "apply": frozenset({"workflow.applied"}),
    "decide": frozenset({"approval.decided"}),
}
"""Which events show that a command of a kind was kept; a kind that is not here must at least have made its stream."""
RSS_GROWTH_MAX: Final = 2.0
HANDLES_MAX: Final = 400
TASKS_MAX: Final = 400
IDLE_CPU_MAX: Final = 0.02


def answers(history: History, watch: Watch) -> Iterator[Finding]:
    """Acknowledged is kept, and the same key meets the same answer."""
    kept: dict[tuple[str, str], Asked] = {}
    for asked in history.asked:
        if asked.status is None or not 200 <= asked.status < 300:  # noqa: PLR2004  (HTTP's successes)
            continue
        names = set(watch.streams.get(asked.stream_id or "", ()))
        if not names & EVIDENCE.get(asked.kind, frozenset(names)):
            message = f"{asked.kind} was answered {asked.status}, but its stream holds only: {', '.join(sorted(names))}"
            yield Finding("acknowledged is kept", message, asked.stream_id or "")
        if asked.key is None:
            continue
        first = kept.setdefault((asked.log, asked.key), asked)
        if (first.stream_id, first.answer) != (asked.stream_id, asked.answer):
            message = (
                f"the key {asked.key!r} met {first.stream_id} {first.answer!r}, then {asked.stream_id} {asked.answer!r}"
            )
            yield Finding("acknowledged is kept", message, asked.stream_id or "")


def effects(history: History, watch: Watch) -> Iterator[Finding]:
    """An effect is applied at most once a key, only under a claim, and is behind every success that says so."""
    applied: Counter[str] = Counter()
    done: set[str] = set()
    tools: set[str] = set()
    for acted in history.acted:
        if acted.attempt_id in done:
            message = f"{acted.tool} acted twice for the one attempt {acted.attempt_id}"
            yield Finding("effect at most once", message, acted.run_id)
        done.add(acted.attempt_id)
        tools.add(acted.tool)
        run = watch.watched.get(acted.run_id)
        instance = run.claimed.get(acted.attempt_id) if run is not None else None
        if run is None or instance is None:
            message = f"{acted.tool} acted for {acted.attempt_id} ({acted.key}), which was never granted"
            yield Finding("effect at most once", message, acted.run_id)
            continue
        applied[acted.key] += acted.applied
        if applied[acted.key] > 1 + run.settled[instance[0], "not_happened"]:
            message = f"{acted.tool} took effect {applied[acted.key]} times under {acted.key}"
            yield Finding("effect at most once", message, acted.run_id)
    for run_id, run in watch.watched.items():
        for attempt_id, instance in run.claimed.items():
            told = run.over.get(instance) == "step.succeeded" and attempt_id in run.reports
            tool = (
                run.plan.steps[instance[0]]["body"].get("tool") if run.plan and instance[0] in run.plan.steps else None
            )
            vouched = run.settled[instance[0], "happened"]  # a person's word, not the outside's
            if told and tool in tools and attempt_id not in done and not vouched:
                yield Finding("effect at most once", f"{attempt_id} succeeded and never acted", run_id)


def children(watch: Watch) -> Iterator[Finding]:
    """A step that a child run performed ended as its child did."""
    for run_id, run in watch.watched.items():
        for child_id, ended in run.children.items():
            child = watch.watched.get(child_id)
            how = child.ended if child is not None else "no run at all"
            if (ended == "step.succeeded") != (how == "run.succeeded"):
                yield Finding("history", f"a step ended by {ended}, its child {child_id} by {how}", run_id)


def taken_back(watch: Watch) -> Iterator[Finding]:
    """A question that its run took back is open to nobody."""
    for approval in sorted(watch.taken_back):
        known = watch.approvals.get(approval)
        if known is not None and known["closed"] is None:
            yield Finding("history", "its run took it back, and it is still open", approval)


def readings(history: History, last: Mapping[tuple[str, int], int], watch: Watch) -> Iterator[Finding]:
    """Every reader saw every event of its place, once and in order."""
    for reading in history.readings:
        if reading.stream_id is not None:
            end, where = len(watch.streams.get(reading.stream_id, ())), reading.stream_id
        else:
            end, where = last.get((reading.log, reading.partition), 0), f"{reading.log}/{reading.partition}"
        expected = list(range(1, (end if reading.whole else len(reading.seen)) + 1))
        if reading.seen != expected:
            lacking = sorted(set(expected) - set(reading.seen))[:5]
            message = f"{reading.reader} of {where} saw {len(reading.seen)} of {end}; lacking {lacking or 'none, but out of order'}"
            yield Finding("readers saw everything", message, reading.stream_id or "")


def bounds(history: History) -> Iterator[Finding]:
    """What processes use stays bounded, and idle ones are idle."""
    first: dict[str, int] = {}
    before: dict[str, tuple[int, float]] = {}
    for sample in history.samples:
        start = first.setdefault(sample.process, sample.rss_bytes)
        if start and sample.rss_bytes > start * RSS_GROWTH_MAX:
            yield Finding("bounded", f"{sample.process} grew from {start} to {sample.rss_bytes} bytes")
        if sample.handles > HANDLES_MAX or sample.tasks > TASKS_MAX:
            yield Finding("bounded", f"{sample.process} holds {sample.handles} handles and {sample.tasks} tasks")
        at, cpu_s = before.get(sample.process, (sample.at, sample.cpu_s))
        seconds = (sample.at - at) / 1000
        if sample.idle and seconds > 0 and (sample.cpu_s - cpu_s) / seconds > IDLE_CPU_MAX:
            share = (sample.cpu_s - cpu_s) / seconds
            yield Finding("bounded", f"{sample.process} used {share:.0%} of a core while idle")
        before[sample.process] = sample.at, sample.cpu_s


def plan_digest(queued: Recorded) -> str:
    """Give the plan that a run was created of."""
    found: str = msgspec.json.decode(queued.data)["plan_digest"]
    return found
