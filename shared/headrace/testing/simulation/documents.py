"""Workflows of the simulation: random graphs of every kind of step, each made from its number alone and compiled once."""

import functools
from typing import Any, Final

from headrace import codec
from headrace.plans import model
from headrace.testing.processes import installed
from headrace.testing.simulation import features
from headrace.testing.simulation.chance import Chance
from headrace.testing.simulation.world import PLANNER
from headrace.testing.views import at_once
from headrace.vocabulary import LOG_CATALOGUE, WORKSPACE_DEFAULT

DOCUMENTS: Final = 240
"""How many different workflows there are; schedules draw from them."""
LONG: Final = 5
"""Of how many values a map repeats them, to be longer than what its run keeps in one piece."""
STEPS_MIN: Final = 4
STEPS_MAX: Final = 14
TRIGGER: Final = "ping"
TRIGGERED: Final = 48
"""How many of them a trigger starts: their planners compile these, which takes a while, so there are fewer."""
RELIABLE: Final = frozenset({"look", "note", "transform"})
"""Kinds whose output later steps may refer to: they are there whenever the run is."""


class Compiled:
    """A document with its plan's bytes and digest."""

    def __init__(self, document: dict[str, Any], body: bytes) -> None:
        self.document = document
        self.body = body
        self.plan = model.parse(body)
        self.digest = codec.sha256(body)


class Compiler:
    """Compiles workflows by their numbers, each once, as the installed planner does with what a log knows."""

    def __init__(self, log: Any, clock: Any) -> None:
        self._preparer = installed(PLANNER).preparers(log, clock=clock)[LOG_CATALOGUE]
        self._known: dict[int, Compiled] = {}

    def compiled(self, number: int) -> Compiled:
        """Give a workflow by its number; raises TypeError when the simulation wrote one that does not compile."""
        known = self._known.get(number)
        if known is None:
            document = _document(number)
            made = at_once(self._preparer.compiled(codec.raw(document), WORKSPACE_DEFAULT))
            if made.problems:
                message = f"document {number} of the simulation has problems: {made.problems}"
                raise TypeError(message)
            known = self._known[number] = Compiled(document, bytes(made.plan))
        return known

    def compile_triggered(self, kept: Any) -> None:
        """Compile all workflows that a trigger starts, for planners that begin with what was `kept`."""
        self._preparer._kept = kept  # noqa: SLF001  (as those planners' do)
        for number in range(TRIGGERED):
            at_once(self._preparer.compiled(codec.raw(triggered(number)), WORKSPACE_DEFAULT))


def child() -> dict[str, Any]:
    """Give the workflow that others run as a step."""
    steps = [
        {"id": "see", "tool": "look", "with": {"value": "{{ inputs.value }}", "seconds": 0.2}},
        {"id": "keep", "tool": "note", "with": {"value": "{{ steps.see.output.value }}"}},
    ]
    spec = {
        "inputs": {"value": {"type": "integer", "default": 0}},
        "steps": steps,
        "outputs": {"value": "{{ steps.keep.output.value }}"},
    }
    return {"apiVersion": "headrace/v1", "kind": "Workflow", "metadata": {"name": features.CHILD}, "spec": spec}


@functools.cache
def triggered(number: int) -> dict[str, Any]:
    """Give a workflow that a trigger event starts."""
    document = _document(number)
    document["metadata"]["name"] = f"triggered-{number}"
    document["spec"]["triggers"] = [{"type": "event", "event": TRIGGER}]
    document["spec"].pop("automation", None)
    return document


def _document(number: int) -> dict[str, Any]:
    chance = Chance(f"workflow {number}")
    steps: list[dict[str, Any]] = []
    for place in range(chance.randint(STEPS_MIN, STEPS_MAX)):
        steps.append(_step(chance, place, steps))
    spec: dict[str, Any] = {"steps": steps, "timeout": "10m"}
    if chance.happens(0.05):
        spec["automation"] = "human_approval"
    if chance.happens(0.3):
        spec["outputs"] = {"last": "{{ steps.s0.status }}"}
    features.spice(chance, spec)
    for step in steps:
        step.pop("_kind", None)
    return {
        "apiVersion": "headrace/v1",
        "kind": "Workflow",
        "metadata": {"name": f"sim-{number}"},
        "spec": spec,
    }


def _step(chance: Chance, place: int, before: list[dict[str, Any]]) -> dict[str, Any]:
    drawn = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    step: dict[str, Any] = {"id": f"s{place}", "_kind": drawn}
    KINDS[drawn][1](chance, step, before)
    names = [other["id"] for other in before if other["_kind"] != "branch"]
    if names and chance.happens(0.75):
        step["depends_on"] = sorted(chance.sample(names, min(len(names), chance.randint(1, 2))))
    if before and drawn in {"look", "note"} and chance.happens(0.08):
        step["condition"] = chance.choice(["1 < 2", "2 < 1"])
    return step


def _call(chance: Chance, step: dict[str, Any], before: list[dict[str, Any]]) -> None:
    """Fill in a call: quick or slow, sometimes failing first, sometimes with what a step before gave."""
    step["tool"] = step["_kind"]
    given: dict[str, Any] = {"value": chance.randint(0, 99)}
    sources = [other["id"] for other in before if other["_kind"] in RELIABLE and "condition" not in other]
    if sources and chance.happens(0.4):
        source = chance.choice(sources)
        field = "" if next(other for other in before if other["id"] == source)["_kind"] == "transform" else ".value"
        given["value"] = f"{{{{ steps.{source}.output{field} }}}}"
    if chance.happens(0.5):
        given["seconds"] = chance.choice([0.01, 0.1, 0.5, 1.0, 3.0])
    if chance.happens(0.25) and step["_kind"] != "strike":
        given["fails"] = chance.randint(1, 2)
        step["retry"] = {
            "max_attempts": chance.randint(2, 4),
            "backoff": {"initial": f"{chance.randint(1, 4) * 100}ms"},
        }
        if given["fails"] >= step["retry"]["max_attempts"] or chance.happens(0.1):
            step["on_error"] = "continue"
    step["with"] = given


def _map(chance: Chance, step: dict[str, Any], _before: list[dict[str, Any]]) -> None:
    step["tool"] = chance.choice(["look", "look", "note"])
    count = chance.randint(0, 5)
    step["map"] = [chance.randint(0, 9) for _ in range(count)] * (LONG if count == LONG else 1)
    step["with"] = {"value": "{{ item }}", "seconds": chance.choice([0.0, 0.05, 0.4])}


def _branch(chance: Chance, step: dict[str, Any], _before: list[dict[str, Any]]) -> None:
    """A choice between steps that come later: they are added behind the others by `features`."""
    step["condition"] = {"expression": chance.choice(["1 < 2", "2 < 1"]), "then": [], "else": []}


def _gate(chance: Chance, step: dict[str, Any], _before: list[dict[str, Any]]) -> None:
    passes = chance.happens(0.9)
    step["gate"] = {"type": "expression", "expression": "1 < 2" if passes else "2 < 1"}
    if not passes:
        step["gate"]["required"] = False


def _approval(chance: Chance, step: dict[str, Any], _before: list[dict[str, Any]]) -> None:
    step["approval"] = {"roles": ["approver"], "quorum": chance.choice([1, 1, 1, 2]), "prompt": "Well?"}
    if chance.happens(0.2):
        step["approval"]["expires"] = "20s"


def _wait(chance: Chance, step: dict[str, Any], _before: list[dict[str, Any]]) -> None:
    step["wait"] = f"{chance.choice([100, 700, 2_000, 5_000])}ms"


def _transform(chance: Chance, step: dict[str, Any], _before: list[dict[str, Any]]) -> None:
    step["transform"] = chance.randint(0, 99)


KINDS: Final[dict[str, tuple[float, Any]]] = {
    "look": (5, _call),
    "note": (3, _call),
    "strike": (1.4, _call),
    "pay": (0.4, _call),
    "ring": (0.5, _call),
    "map": (1.5, _map),
    "branch": (1.2, _branch),
    "gate": (0.8, _gate),
    "approval": (0.5, _approval),
    "wait": (1, _wait),
    "transform": (3, _transform),
}
