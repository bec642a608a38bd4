"""`python -m headrace.testing.simulation`: many seeds, or one again."""

import argparse
import gc
import logging
import multiprocessing
import multiprocessing.pool
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from headrace.testing.simulation.scenario import KINDS, Scenario, scenario
from headrace.testing.simulation.schedule import Outcome, Schedule, prepare, run
from headrace.testing.simulation.shrink import shrink

CHUNK: Final = 25
"""Schedules of one process: it is forked from one that has made what all share, and leaves nothing but its tally."""
VOID_BELOW: Final = 300
"""So many seeds must have made every fault happen; fewer prove nothing about that."""
BLIND_BELOW: Final = 30
"""So many seeds must have left effects in the ledger; without them nothing was checked of effects."""
STORY_LINES_MAX: Final = 60
FAILURES_SHOWN_MAX: Final = 3


class Tally(msgspec.Struct):
    """What many schedules came to."""

    seeds: int = 0
    runs: int = 0
    steps: int = 0
    events: int = 0
    effects: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    fired: Counter[str] = msgspec.field(default_factory=Counter)
    failed: dict[int, str] = {}

    def add(self, outcome: Outcome) -> None:
        """Count one schedule."""
        self.seeds += 1
        self.runs += outcome.runs
        self.steps += outcome.steps
        self.events += outcome.events
        self.effects += outcome.effects
        self.virtual_s += outcome.seconds
        self.fired += outcome.fired
        if outcome.findings:
            self.failed[outcome.scenario.seed] = str(outcome.findings[0])

    def join(self, other: "Tally") -> None:
        """Count what another process counted."""
        for name in ("seeds", "runs", "steps", "events", "effects", "virtual_s", "cpu_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.fired += other.fired
        self.failed |= other.failed


def main(arguments: Sequence[str]) -> int:
    """Run the command and give its exit code: 1 when a promise was broken or a fault never fired."""
    parser = argparse.ArgumentParser(prog="python -m headrace.testing.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run one seed and print its history")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds (200)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--processes", type=int, default=1, help="how many processes share the seeds (1)")
    parser.add_argument("--jobs", help="of --seed: only these runs, such as 0,2")
    parser.add_argument("--faults", help="of --seed: only these faults, by their number, such as 1,3")
    parser.add_argument("--calm", action="store_true", help="of --seed: no message or answer gets lost")
    parser.add_argument("--stop", action="store_true", help="end with the first broken schedule")
    parser.add_argument("--no-shrink", action="store_true", help="do not look for a smaller history")
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    if given.seed is not None:
        return _one(_reduced(scenario(given.seed), given), small=not given.no_shrink)
    if given.stop:
        return _first(range(given.first, given.first + given.seeds))
    return _many(range(given.first, given.first + given.seeds), given.processes, small=not given.no_shrink)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _reduced(whole: Scenario, given: argparse.Namespace) -> Scenario:
    """Take only the named pieces of a scenario."""
    from headrace.testing.simulation.weather import CALM

    kept = whole
    if given.jobs is not None:
        wanted = {int(number) for number in given.jobs.split(",") if number}
        kept = msgspec.structs.replace(kept, jobs=tuple(job for job in kept.jobs if job.number in wanted))
    if given.faults is not None:
        places = {int(number) for number in given.faults.split(",") if number}
        kept = msgspec.structs.replace(kept, faults=tuple(f for place, f in enumerate(kept.faults) if place in places))
    return msgspec.structs.replace(kept, rates=CALM) if given.calm else kept


# one seed


def _one(wanted: Scenario, *, small: bool) -> int:
    outcome = run(wanted)
    again = run(wanted)
    _say(show(outcome))
    if outcome.digest != again.digest:
        _say("the same seed gave two different histories: the simulation is not deterministic")
        return 1
    if outcome.findings and small:
        _say("")
        _say(show(shrink(outcome, _say)))
    return 1 if outcome.findings else 0


def show(outcome: Outcome) -> str:
    """Give a schedule as people read it: what was asked and broken, what was found, and the history of where."""
    given = outcome.scenario
    lines = [f"seed {given.seed}: {given.planners} planners, {given.workers} workers, story {outcome.digest[:16]}"]
    for job in given.jobs:
        extra = "".join(
            f", {text}"
            for text, there in (
                (f"cancelled {job.cancel_at or 0:.2f} s later", job.cancel_at is not None),
                (f"paused {job.pause_at or 0:.2f} s later", job.pause_at is not None),
                ("asked for twice", job.repeat),
                ("by a trigger", job.trigger),
                ("never answered", job.unanswered),
            )
            if there
        )
        lines.append(f"  {job.at:6.2f} s  run {job.number} of workflow {job.document}{extra}")
    lines += [
        f"  {one.at:6.2f} s  {one.kind} ({one.which}) for {one.seconds:.2f} s"
        + (f", or {one.moment:.2f} s after event {one.after}" if one.after is not None else "")
        for one in given.faults
    ]
    storm = {name: value for name in given.rates.__struct_fields__ if (value := getattr(given.rates, name))}
    lines.append("  weather: " + (", ".join(f"{name} {value:.3f}" for name, value in storm.items()) or "calm"))
    lines.append(
        f"  {outcome.runs} runs, {outcome.steps} steps, {outcome.events} events, {outcome.effects} effects"
        f" in {outcome.seconds:.1f} virtual seconds"
    )
    lines += [f"  BROKEN {finding}" for finding in outcome.findings]
    for stream in sorted({finding.stream_id for finding in outcome.findings if finding.stream_id}):
        told = [line.decode() for line in outcome.story.split(b"\n") if stream.encode() in line]
        lines += [f"    {line[:200]}" for line in told[:STORY_LINES_MAX]]
    return "\n".join(lines)


# many seeds


def _many(seeds: range, processes: int, *, small: bool) -> int:
    tally = Tally()
    with _forked(processes) as pool:
        for part in pool.imap_unordered(_chunk, _chunks(seeds)):
            tally.join(part)
    _say(summary(tally))
    for seed in sorted(tally.failed)[:FAILURES_SHOWN_MAX]:
        outcome = run(scenario(seed))
        _say("\n" + show(shrink(outcome, _say) if small and outcome.findings else outcome))
        _say(f"  again: python -m headrace.testing.simulation --seed {seed}")
    if missing := void(tally):
        _say(f"VOID: {missing}")
    return 1 if tally.failed or missing else 0


def _forked(processes: int) -> multiprocessing.pool.Pool:
    """Give processes that each do one chunk, with what all schedules share made already."""
    prepare()
    gc.collect()
    gc.freeze()
    gc.disable()
    return multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=1)


def _chunks(seeds: range) -> Iterator[range]:
    for start in range(0, len(seeds), CHUNK):
        yield seeds[start : start + CHUNK]


def _first(seeds: range) -> int:
    """Look for the first broken schedule, for those who seed bugs."""
    cpu_s = 0.0
    with _forked(1) as pool:
        for part in pool.imap(_until_broken, _chunks(seeds)):
            cpu_s += part.cpu_s
            for seed, told in sorted(part.failed.items()):
                _say(f"FIRST seed {seed} after {seed - seeds.start + 1} schedules, {cpu_s:.1f} s of CPU: {told}")
                return 1
    _say(f"nothing broken in {len(seeds)} schedules")
    return 0


def _until_broken(seeds: range) -> Tally:
    return _chunk(seeds, stop=True)


def _chunk(seeds: range, *, stop: bool = False) -> Tally:
    """Run some schedules in a process that ends with them: nothing is tidied up, and no garbage collected."""
    tally = Tally()
    began = time.process_time()
    kept: list[Schedule] = []
    for seed in seeds:
        kept.append(Schedule(scenario(seed)))
        outcome = kept[-1].run(tidy=False)
        tally.add(outcome)
        if outcome.findings:
            _say(f"seed {seed} is broken: {outcome.findings[0]}")
            if stop:
                break
    tally.cpu_s = time.process_time() - began
    return tally


def void(tally: Tally) -> str:
    """Say what a campaign did not try although it was large enough; nothing if it tried all."""
    if tally.seeds >= BLIND_BELOW and not tally.effects:
        return "the ledger of effects saw none"
    never = sorted(kind for kind in (*KINDS, *WEATHER) if not tally.fired[kind])
    return f"these faults never happened: {', '.join(never)}" if never and tally.seeds >= VOID_BELOW else ""


WEATHER: Final = (
    "message lost",
    "message repeated",
    "message late",
    "acknowledgement lost",
    "answer lost",
    "append refused",
    "append unknown",
    "append late",
    "log silent",
    "heartbeat lost",
    "session ended",
)


def summary(tally: Tally) -> str:
    """Give a campaign in a few lines."""
    rate = tally.seeds / tally.cpu_s * 60 if tally.cpu_s else 0.0
    counted = ", ".join(f"{name} {tally.fired[name]}" for name in sorted((*KINDS, *WEATHER)))
    branches = ", ".join(f"{name} {count}" for name, count in sorted(tally.fired.items()) if "." in name)
    done = f"{tally.runs} runs, {tally.steps} steps, {tally.events} events, {tally.effects} effects"
    return "\n".join(
        (
            f"{tally.seeds} schedules, {len(tally.failed)} broken: {done}, {tally.virtual_s / 3600:.1f} virtual hours",
            f"{tally.cpu_s:.1f} s of CPU: {rate:.0f} schedules a minute",
            f"faults: {counted}",
            f"events: {branches}",
        )
    )
