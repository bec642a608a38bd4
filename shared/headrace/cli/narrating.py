"""A run's events as sentences (pure)."""

from collections.abc import Mapping
from typing import Any

from headrace.events.parts import parts_of
from headrace.ids import instance


def line(event: Mapping[str, Any]) -> str:
    """Write an event of the log as one line with its time; one that stands for several as a line each."""
    parts = parts_of(str(event["type"]), event["data"])
    return "\n".join(f"{event['at']} {sentence(kind, data)}" for kind, data in parts)


def sentence(kind: str, data: Mapping[str, Any]) -> str:
    """Write an event as a short sentence."""
    several = parts_of(kind, data)
    if len(several) > 1:
        return f"{sentence(*several[0])}, and so on to {sentence(*several[-1])}"
    kind, data = several[0]
    step = instance(str(data.get("step") or ""), data.get("index"), data.get("iteration") or 0)
    error = data.get("error") or {}
    why = f": {error.get('type')}: {error.get('message')}" if error else ""
    worker = f" at {data['worker']}" if data.get("worker") else ""
    told = {
        "run.queued": f"run queued by {(data.get('requester') or {}).get('name')}",
        "run.started": "run started",
        "step.ready": f"{step} is ready",
        "step.succeeded": f"{step} succeeded{worker}{_took(data)}",
        "step.failed": f"{step} {data.get('status', 'failed')}{worker}{why}",
        "step.skipped": f"{step} skipped: {data.get('reason')}",
        "step.retried": f"{step} is tried again",
        "attempt.failed": f"{step} attempt {data.get('attempt')} {data.get('status')}{why}; another follows{_delay(data)}",
        "attempt.late": f"{step} attempt {data.get('attempt')}: a late result was kept, it changes nothing",
        "write.claimed": f"{step} may act on the world: claimed by {data.get('worker')}",
        "outcome.lost": f"{step}: worker {data.get('worker')} {_gone(data)} while it acted; somebody must say what happened",
        "outcome.settled": f"{step} is settled: {data.get('answer')}{_by(data)}",
        "step.reused": f"{step} stands as {data.get('run_id')} left it",
        "run.paused": f"run paused{_by(data)}",
        "run.resumed": f"run resumed{_by(data)}",
        "run.clock_moved": "no worker performed anything of it so far: that time does not count against its limit",
        "map.started": f"{step} has {data.get('count')} items",
        "loop.iterated": f"{step} begins round {data.get('count')}",
        "wait.started": f"{step} waits for {_awaited(data)}",
        "signal.received": f"signal {data.get('name')} received{_by(data)}",
        "child.started": f"{step} runs {data.get('child_id')}",
        "compensation.started": "what the run did is being undone",
        "timer.started": f"{step} waits for its timer",
        "approval.requested": f"{step or 'the run'} waits for approval {data.get('approval_id')}",
        "approval.received": f"approval {data.get('approval_id')} is open",
        "approval.resolved": f"approval {data.get('approval_id')} is {data.get('status')}{_by(data)}",
        "run.cancel_requested": f"cancel asked for{_by(data)}",
        "run.succeeded": "run succeeded",
        "run.failed": f"run failed{why}",
        "run.cancelled": f"run cancelled{_by(data)}",
        "run.purged": f"run purged{_by(data)}",
        "permit.requested": f"{step or 'the run'} asks for {_key(data)}",
        "permit.queued": f"it has to wait for a shared key{_held(data)}",
        "permit.granted": "a shared key lets it go on",
        "permit.refused": f"a shared key refuses it{_held(data)}",
        "child.held": f"{step}: {data.get('child_id')} is {'paused' if data.get('held') else 'resumed'} too",
        "child.ended": f"its parent {data.get('parent_id')} knows how it ended",
        "items.kept": f"{step}: results so far are kept as a body",
        "artifacts.kept": f"{step}: artifacts so far are kept as a body",
        "work.kept": "what is to be undone if the run fails is kept as a body so far",
        "work.recalled": "what was kept as a body is undone next",
        "wait.registered": f"{step} watches {data.get('run_id')}",
        "run.watched": f"{data.get('by_run')} waits for {data.get('name') or 'its end'}",
        "watch.confirmed": "who waited for it has heard",
    }
    return told.get(kind, f"{kind} {step}".strip())


def _delay(data: Mapping[str, Any]) -> str:
    """Say how long the next attempt is waited for."""
    at, ended = data.get("retry_at"), data.get("finished_at")
    if not (isinstance(at, int) and isinstance(ended, int) and at > ended):
        return ""
    return f" in {(at - ended) / 1000:.1f} s"


def _awaited(data: Mapping[str, Any]) -> str:
    """Say what a wait is for, in the words of documents."""
    kind, name, run_id = data.get("kind"), data.get("name"), data.get("run_id")
    if kind == "run":
        return f"the event {name} of run {run_id}" if name else f"the end of run {run_id}"
    return f"the {'event' if kind == 'trigger' else kind} {name}"


def _key(data: Mapping[str, Any]) -> str:
    """Say which shared key is asked for."""
    kind = "the concurrency key" if data.get("kind") == "concurrency" else "a place within the rate limit"
    return f"{kind} {data.get('key')!r}"


def _held(data: Mapping[str, Any]) -> str:
    holders = ", ".join(map(str, data.get("held_by") or []))
    return f", which {holders} holds" if holders else ""


def _took(data: Mapping[str, Any]) -> str:
    began, ended = data.get("started_at"), data.get("finished_at")
    return f" in {(ended - began) / 1000:.2f} s" if isinstance(began, int) and isinstance(ended, int) else ""


def _gone(data: Mapping[str, Any]) -> str:
    known = {"timeout": "ran out of time", "cancelled": "was stopped", "broken": "gave no usable result"}
    return known.get(str(data.get("reason")), "was lost")


def _by(data: Mapping[str, Any]) -> str:
    """Say who: one actor, or all who decided; and why."""
    told = data.get("by") or []
    names = ", ".join(str(actor.get("name")) for actor in ([told] if isinstance(told, Mapping) else told))
    reason = f" ({data['reason']})" if data.get("reason") else ""
    return (f" by {names}" if names else "") + reason
