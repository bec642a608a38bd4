"""What is put into random workflows beyond their plain steps: branches, and whatever the compiler has learnt since."""

from typing import Any, Final

from headrace.testing.simulation import rolls
from headrace.testing.simulation.chance import Chance

SIGNAL: Final = "go"
CHILD: Final = "child"
UNDONE_OVER: Final = 4
"""Items of a map of writes beyond which they are undone when its run does not succeed."""


def spice(chance: Chance, spec: dict[str, Any]) -> None:
    """Add to a workflow what needs more than one step of it."""
    _branches(chance, spec)
    _maps(chance, spec)
    _limits(chance, spec)
    if chance.happens(0.12):
        _loop(chance, spec)
    if chance.happens(0.12):
        _shared_key(chance, spec)
    _compensation(chance, spec)
    if chance.happens(0.1):
        _waits(chance, spec)
    if chance.happens(0.12):
        _child(chance, spec)
    if chance.happens(0.35):
        rolls.chain(chance, spec)


def _waits(chance: Chance, spec: dict[str, Any]) -> None:
    """Wait for a signal that people send, or for an event that perhaps never comes."""
    what = chance.choice([{"signal": SIGNAL, "timeout": "40s"}, {"event": "ping", "timeout": "6s"}])
    spec["steps"].append({"id": "heed", "_kind": "wait", "wait": what, "on_error": "continue"})


def _child(chance: Chance, spec: dict[str, Any]) -> None:
    """Run another workflow as a step, or as each item of a map."""
    step: dict[str, Any] = {"id": "kid", "_kind": "child", "sub_workflow": {"workflow": CHILD, "with": {"value": 3}}}
    if chance.happens(0.3):
        step["map"] = [1, 2]
    spec["steps"].append(step)


def _shared_key(chance: Chance, spec: dict[str, Any]) -> None:
    """Let runs of several workflows share a key, of which there are three."""
    spec["concurrency"] = {
        "key": f"key-{chance.randint(1, 3)}",
        "limit": chance.randint(1, 2),
        "on_conflict": chance.choice(["queue", "queue", "queue", "reject", "replace"]),
    }
    if chance.happens(0.5):
        spec["priority"] = chance.randint(1, 9)


def _compensation(chance: Chance, spec: dict[str, Any]) -> None:
    """Let some writes be undone when the run fails or is cancelled, and those of every long map."""
    for step in [step for step in spec["steps"] if step["_kind"] == "map" and step["tool"] == "note"]:
        if len(step["map"]) > UNDONE_OVER:
            step["compensate"] = {"tool": "undo", "with": {"value": "{{ output.value }}"}}
    for step in [step for step in spec["steps"] if step["_kind"] == "note" and "condition" not in step]:
        if chance.happens(0.15):
            step["compensate"] = {"tool": "undo", "with": {"value": "{{ output.value }}"}}


def _maps(chance: Chance, spec: dict[str, Any]) -> None:
    """Let some maps do few items at once, and some collect what fails."""
    for step in [step for step in spec["steps"] if step["_kind"] == "map"]:
        if chance.happens(0.3):
            step["concurrency"] = chance.randint(1, 2)
        if chance.happens(0.2) and step["tool"] == "look":
            step["on_item_error"] = "collect"
            step["with"]["fails"] = 1


def _limits(chance: Chance, spec: dict[str, Any]) -> None:
    """Give some calls little time: for an attempt, for all of them, or in the queue."""
    for step in [step for step in spec["steps"] if step["_kind"] == "look"]:
        if chance.happens(0.08):
            step["timeout"] = chance.choice([{"attempt": "2s"}, {"step": "20s"}, {"queue": "15s"}])
            step["on_error"] = "continue"


def _loop(chance: Chance, spec: dict[str, Any]) -> None:
    """Add a loop of a few rounds, with a call and a computation in its body."""
    rounds = chance.randint(0, 3)
    tool = chance.choice(["look", "note"])
    spec["steps"] += [
        {"id": "again", "_kind": "loop", "loop": {"while": f"iteration < {rounds}", "steps": ["act", "count"]}},
        {"id": "act", "_kind": "body", "tool": tool, "with": {"value": "{{ iteration }}"}},
        {"id": "count", "_kind": "body", "transform": "{{ steps.act.output.value + iteration }}"},
    ]


def _branches(chance: Chance, spec: dict[str, Any]) -> None:
    """Give each choice a step for either side."""
    for step in [step for step in spec["steps"] if step["_kind"] == "branch"]:
        for side in ("then", "else"):
            name = f"{step['id']}_{side}"
            tool = chance.choice(["look", "note"])
            spec["steps"].append(
                {"id": name, "_kind": "side", "depends_on": [step["id"]], "tool": tool, "with": {"value": 1}}
            )
            step["condition"][side].append(name)
