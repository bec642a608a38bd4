"""Makes a failing scenario small: faults, jobs and weather are left out one by one while it goes on failing."""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from headrace.testing.simulation.scenario import Scenario
from headrace.testing.simulation.schedule import Outcome, run
from headrace.testing.simulation.weather import CALM, Rates

TRIES_MAX: Final = 200


def shrink(outcome: Outcome, tell: Callable[[str], None]) -> Outcome:
    """Give the smallest scenario found that breaks the same promise, greedily."""
    wanted = {finding.invariant for finding in outcome.findings}
    best, tries, smaller = outcome, 0, True
    while smaller and tries < TRIES_MAX:
        smaller = False
        for candidate in _smaller(best.scenario):
            tries += 1
            tried = run(candidate)
            if wanted & {finding.invariant for finding in tried.findings}:
                best, smaller = tried, True
                break
            if tries >= TRIES_MAX:
                break
    kept = best.scenario
    tell(f"shrunk in {tries} tries to {len(kept.jobs)} runs and {len(kept.faults)} faults")
    return best


def _smaller(given: Scenario) -> Iterator[Scenario]:
    """Give scenarios with a piece less, the largest pieces first."""
    if given.rates != CALM:
        yield msgspec.structs.replace(given, rates=CALM)
    for place in range(len(given.jobs)):
        if len(given.jobs) > 1:
            yield msgspec.structs.replace(given, jobs=given.jobs[:place] + given.jobs[place + 1 :])
    for place in range(len(given.faults)):
        yield msgspec.structs.replace(given, faults=given.faults[:place] + given.faults[place + 1 :])
    if given.planners > 1:
        yield msgspec.structs.replace(given, planners=1)
    if given.workers > 1:
        yield msgspec.structs.replace(given, workers=1)
    for name in Rates.__struct_fields__:
        if name != "late_s" and getattr(given.rates, name):
            yield msgspec.structs.replace(given, rates=msgspec.structs.replace(given.rates, **{name: 0.0}))
    for place, job in enumerate(given.jobs):
        plainer = msgspec.structs.replace(job, cancel_at=None, pause_at=None, repeat=False)
        if plainer != job:
            yield msgspec.structs.replace(given, jobs=(*given.jobs[:place], plainer, *given.jobs[place + 1 :]))
