"""What a seed means: the runs that are asked for, the faults, and the weather. Pieces can be left out to shrink it."""

from typing import Final

import msgspec

from headrace.testing.simulation.chance import Chance
from headrace.testing.simulation.documents import DOCUMENTS
from headrace.testing.simulation.weather import CALM, Rates

STORM_S: Final = 12.0
"""How long things break, in virtual seconds."""
FAULTS_S: Final = 9.6
"""Within so much of it faults begin."""
JOBS_S: Final = 4.8
"""Within so much of it runs are asked for."""
AT_WORK: Final = 0.6
"""The share of faults that strike where work is done, as an event takes hold, instead of at a time."""
AT_WORK_MAX: Final = 60
"""They wait for so many events at most: about what takes hold while the storm lasts."""
MOMENTS_S: Final = (0.0, 0.0, 0.01, 0.05)
"""How long after the event they strike: before its owner hears of it, as it hears, or when its orders are out."""
RUNS_MIN: Final = 3
RUNS_MAX: Final = 4
FAULTS_MIN: Final = 5
FAULTS_MAX: Final = 11
FOUL_MAX: Final = 0.44
"""The largest share of messages that one respect of the weather may concern (of late ones: twice that)."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A run that a client asks for: of which workflow, when, and what else the client does about it."""

    number: int
    document: int
    at: float
    cancel_at: float | None = None
    repeat: bool = False
    """The client asks again under the same key, later: it must meet the same run and the same answer."""
    pause_at: float | None = None
    """The client pauses the run so much later, and lets it go on after a while."""
    trigger: bool = False
    """A trigger event starts it instead."""
    unanswered: bool = False
    """Nobody decides what the run asks: it must wait for that, named."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that breaks: what, when, which of its kind, and for how long.

    With `after` it strikes `moment` seconds after so many events have taken hold, and at `at` at the latest.
    """

    kind: str
    at: float
    after: int | None = None
    moment: float = 0.0
    which: int = 0
    seconds: float = 0.0


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a seed decides, but for what is drawn while it runs."""

    seed: int
    planners: int
    workers: int
    jobs: tuple[Job, ...]
    faults: tuple[Fault, ...]
    rates: Rates


KINDS: Final[dict[str, tuple[float, float, float]]] = {
    "kill planner": (3, 0.2, 4.0),
    "kill gatekeeper": (1, 0.2, 4.0),
    "kill worker": (3, 0.2, 4.0),
    "pause planner": (3, 1.0, 9.0),
    "pause gatekeeper": (1, 1.0, 9.0),
    "pause worker": (2, 1.0, 16.0),
    "stop planner": (1, 0.2, 2.0),
    "stop worker": (1, 0.2, 2.0),
    "add planner": (1, 0.0, 0.0),
    "wipe bus": (2, 0.0, 0.0),
    "bus away": (1.5, 0.3, 6.0),
    "cut planner from bus": (1.5, 0.5, 8.0),
    "cut worker from bus": (1.5, 0.5, 14.0),
    "log away": (1.5, 0.2, 5.0),
    "cut planner from log": (1.5, 0.5, 8.0),
    "clock jump": (1, 0.0, 0.0),
}
"""Faults by kind: weight, and the shortest and longest time they last, in seconds (how soon the killed come back)."""


def scenario(seed: int, *, runs_max: int = RUNS_MAX, at_work_max: int = AT_WORK_MAX) -> Scenario:
    """Draw what a seed means; with other bounds, what it meant with those."""
    chance = Chance(f"scenario {seed}")
    jobs = tuple(_job(chance, number) for number in range(chance.randint(RUNS_MIN, runs_max)))
    kinds = chance.choices(
        list(KINDS), [weight for weight, _, _ in KINDS.values()], k=chance.randint(FAULTS_MIN, FAULTS_MAX)
    )
    faults = [_fault(chance, kind, at_work_max) for kind in kinds]
    return Scenario(
        seed=seed,
        planners=chance.choice([1, 2, 2]),
        workers=chance.choice([1, 2]),
        jobs=jobs,
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
        rates=_rates(chance),
    )


def _job(chance: Chance, number: int) -> Job:
    return Job(
        number=number,
        document=chance.randrange(DOCUMENTS),
        at=chance.random() * JOBS_S,
        cancel_at=chance.random() * 6 if chance.happens(0.12) else None,
        repeat=chance.happens(0.3),
        pause_at=chance.random() * 4 if chance.happens(0.1) else None,
        trigger=chance.happens(0.06),
        unanswered=chance.happens(0.08),
    )


def _fault(chance: Chance, kind: str, at_work_max: int) -> Fault:
    _, shortest, longest = KINDS[kind]
    at_work = chance.happens(AT_WORK)
    share = chance.random() ** (1 if kind.startswith("pause") else 2)  # what is away soon does its work in the storm
    return Fault(
        kind=kind,
        at=FAULTS_S * (1 - chance.random() / 2 if at_work else chance.random()),
        after=chance.randint(1, at_work_max) if at_work else None,
        moment=chance.choice(MOMENTS_S) if at_work else 0.0,
        which=chance.randrange(8),
        seconds=shortest + share * (longest - shortest),
    )


def _rates(chance: Chance) -> Rates:
    """Draw the weather: some is fair; what is foul is so in about half of all respects, and the more in those."""
    if chance.happens(0.2):
        return CALM
    foul = FOUL_MAX * chance.random()

    def some() -> float:
        return foul * chance.random() if chance.happens(0.5) else 0.0

    return Rates(
        lost=some(),
        twice=some(),
        late=2 * some(),
        late_s=chance.choice([0.05, 0.5, 3.0]),
        unacked=some(),
        append_refused=some() / 2,
        append_unknown=some() / 2,
        append_late=some(),
        log_silent=some() / 4,
    )
