"""What is put into random workflows beyond their plain steps: branches, and whatever the compiler has learnt since."""

from typing import Any

from headrace.testing.simulation.chance import Chance


def spice(chance: Chance, spec: dict[str, Any]) -> None:
    """Add to a workflow what needs more than one step of it."""
    _branches(chance, spec)


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
