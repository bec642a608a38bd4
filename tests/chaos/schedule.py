"""What a seed means: which faults, when, on whom, for how long. A schedule can be written down and played again."""

from pathlib import Path
from typing import Final

import msgspec

from headrace.testing.simulation.chance import Chance

FIRST_AT_S: Final = 2.0
SECONDS_PER_FAULT: Final = 2.6
"""How far faults lie apart on average in a full round; many last longer than that."""

PLANNERS: Final = ("planner_1", "planner_2")
RUNNERS: Final = ("runner_1", "runner_2")
SERVICES: Final = (*PLANNERS, *RUNNERS, "gatekeeper", "integrations", "api")
DATABASE_USERS: Final = (*PLANNERS, "gatekeeper", "api")
BUS_USERS: Final = SERVICES
WATCHED_WORKERS: Final = (*RUNNERS, "gatekeeper")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that breaks: what, when (seconds into the storm), on whom, and for how long."""

    kind: str
    at: float
    target: str = ""
    seconds: float = 0.0
    number: int = 0


class Kind(msgspec.Struct, frozen=True):
    """A kind of fault: how often it is drawn, on whom, and its shortest and longest time in seconds."""

    weight: float
    targets: tuple[str, ...] = ("",)
    shortest: float = 0.0
    longest: float = 0.0
    root: bool = False


KINDS: Final[dict[str, Kind]] = {
    "kill planner": Kind(4, PLANNERS),
    "kill runner": Kind(3, RUNNERS),
    "kill gatekeeper": Kind(2, ("gatekeeper",)),
    "kill integrations": Kind(0.3, ("integrations",)),
    "kill api": Kind(2, ("api",)),
    "crash before_append": Kind(1, (*PLANNERS, "gatekeeper"), 40, 40),
    "crash after_append": Kind(2, (*PLANNERS, "gatekeeper"), 40, 40),
    "crash before_publish": Kind(1, PLANNERS, 40, 40),
    "crash after_publish": Kind(1, PLANNERS, 40, 40),
    "crash after_claim": Kind(1, RUNNERS, 40, 40),
    "crash before_report": Kind(1, RUNNERS, 40, 40),
    "crash after_report": Kind(1, RUNNERS, 40, 40),
    "crash before_answer": Kind(1, ("api",), 40, 40),
    "pause planner": Kind(3, PLANNERS, 1, 15),
    "pause runner": Kind(2, RUNNERS, 1, 20),
    "pause gatekeeper": Kind(1, ("gatekeeper",), 1, 12),
    "pause api": Kind(1, ("api",), 1, 5),
    "stop planner": Kind(1, PLANNERS),
    "stop runner": Kind(1, RUNNERS),
    "nats killed": Kind(1.5, ("",), 0, 3),
    "nats wiped": Kind(1.5, ("",), 0, 3),
    "nats paused": Kind(0.7, ("",), 1, 8),
    "stream deleted": Kind(1),
    "stream purged": Kind(1),
    "consumer deleted": Kind(1),
    "postgres killed": Kind(1.5, ("",), 0, 2),
    "postgres killed in recovery": Kind(0.7),
    "postgres link cut": Kind(1.5, DATABASE_USERS, 0.2, 5),
    "postgres answer lost": Kind(2, (*PLANNERS, "gatekeeper"), 15, 15),
    "postgres link reset": Kind(1, DATABASE_USERS, 10, 10),
    "postgres link held": Kind(1, DATABASE_USERS, 1, 12),
    "postgres link half open": Kind(1, DATABASE_USERS, 1, 12),
    "postgres link slow": Kind(1, DATABASE_USERS, 3, 10),
    "nats link cut": Kind(1.5, BUS_USERS, 0.2, 8),
    "nats link reset": Kind(1, (*PLANNERS, *RUNNERS), 10, 10),
    "nats link held": Kind(1, BUS_USERS, 1, 14),
    "nats link half open": Kind(1, BUS_USERS, 1, 14),
    "nats link slow": Kind(1, BUS_USERS, 3, 10),
    "duplicates": Kind(2),
    "poison": Kind(1),
    "oversized": Kind(0.7),
    "postgres disk full": Kind(0.7, ("",), 2, 5, root=True),
    "nats disk full": Kind(0.7, ("",), 2, 5, root=True),
    "clock jump": Kind(1, ("planner_2",)),
}
SHORT: Final = (
    "kill planner",
    "kill runner",
    "crash after_append",
    "crash after_claim",
    "pause planner",
    "nats wiped",
    "postgres killed",
    "postgres answer lost",
    "nats link cut",
    "duplicates",
    "poison",
)
"""What a short round does: one of each family."""


def drawn(seed: int, storm_s: float, kinds: tuple[str, ...]) -> list[Fault]:
    """Draw a schedule: each of the kinds at least once, then more of them by weight as long as there is time."""
    chance = Chance(f"chaos {seed} {storm_s:g}")
    names = list(kinds)
    weights = [KINDS[name].weight for name in names]
    more = max(0, int(storm_s / SECONDS_PER_FAULT) - len(names))
    chosen = names + chance.choices(names, weights, k=more)
    chance.shuffle(chosen)
    gap = (storm_s - FIRST_AT_S) / len(chosen)
    return [
        _fault(chance, name, FIRST_AT_S + gap * (place + chance.random() * 0.8)) for place, name in enumerate(chosen)
    ]


def _fault(chance: Chance, name: str, at: float) -> Fault:
    kind = KINDS[name]
    return Fault(
        kind=name,
        at=round(at, 2),
        target=chance.choice(kind.targets),
        seconds=round(kind.shortest + chance.random() * (kind.longest - kind.shortest), 2),
        number=chance.randrange(1 << 30),
    )


def save(faults: list[Fault], file: Path) -> None:
    """Write a schedule down, one fault a line."""
    file.write_bytes(b"".join(msgspec.json.encode(fault) + b"\n" for fault in faults))


def load(file: Path) -> list[Fault]:
    """Read a schedule that was written down; lines may be taken out to look for the cause of something."""
    return [msgspec.json.decode(line, type=Fault) for line in file.read_bytes().splitlines() if line.strip()]
