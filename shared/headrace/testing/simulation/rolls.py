"""Steps that give something else each time they are performed: so it shows what a step was really given.

A chain of them is performed at one worker, or at several where one was lost; whatever became of it, what is on record
of a step must have been made of what is on record of the step before it.
"""

from typing import Any, Final

import msgspec

from headrace.events.parts import TOGETHER, parts_of
from headrace.log.port import Recorded
from headrace.testing.checker.history import Finding
from headrace.testing.simulation.chance import Chance

TOOL: Final = "roll"
RESULTS: Final = frozenset({"step.succeeded", *TOGETHER})
"""The events that hold results."""
STEM: Final = "f"
STEPS_MIN: Final = 2
STEPS_MAX: Final = 9
SIDES: Final = 10


def rolled(value: int, tried: int) -> int:
    """Give what a tool makes of a value the nth time that it is tried: the value, and one digit more."""
    return value * SIDES + tried % SIDES


def chain(chance: Chance, spec: dict[str, Any]) -> None:
    """Add steps that each take what the one before gave, and nothing else: they are fused, unless that is switched off."""
    for place in range(chance.randint(STEPS_MIN, STEPS_MAX)):
        given: dict[str, Any] = {"value": f"{{{{ steps.{STEM}{place - 1}.output.value }}}}" if place else 7}
        given["seconds"] = chance.choice([0.0, 0.0, 0.01, 0.04, 0.3, 0.7])
        step: dict[str, Any] = {"id": f"{STEM}{place}", "_kind": TOOL, "tool": TOOL, "with": given}
        if chance.happens(0.12):
            given["fails"] = 1
            step["retry"] = {"max_attempts": 3, "backoff": {"initial": "200ms"}}
        spec["steps"].append(step)
    if chance.happens(0.1):
        spec["fuse"] = False


class Rolls:
    """Watches what such steps gave."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], int] = {}

    def see(self, recorded: Recorded) -> list[Finding]:
        """Take an event in; gives what is wrong with it."""
        if recorded.type not in RESULTS:
            return []
        parts = parts_of(recorded.type, msgspec.json.decode(recorded.data))
        return [said for kind, event in parts if kind == "step.succeeded" for said in self._result(recorded, event)]

    def _result(self, recorded: Recorded, event: dict[str, Any]) -> list[Finding]:
        step = str(event["step"])
        if not step.startswith(STEM) or not step[len(STEM) :].isdigit():
            return []
        self._values[recorded.stream_id, step] = value = int(event["output"]["value"])
        place = int(step[len(STEM) :])
        before = self._values.get((recorded.stream_id, f"{STEM}{place - 1}"))
        if place == 0 or before == value // SIDES:
            return []
        told = f"{recorded.stream_id} {step} gave {value}: it was not given {before}, which is on record before it"
        return [Finding("a result is made of the results before it", told)]
