"""Chaos over a cluster: servers of NATS are killed and paused, one at a time, while trigger events come in.

`python -m tests.chaos.cluster --minutes 5 --seed 7`. Every acknowledged event must have its run, exactly once, in time.
Exit code 0 passed, 1 failed. The services themselves, and links between them, are broken by `python -m tests.chaos`.
"""

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

from nats.js.client import JetStreamContext

from headrace.client.client import Client
from tests.chaos.__main__ import say
from tests.system.cluster_kit import PATIENCE_S, TRIGGERED, Node, answers, cluster, outside, publish, started
from tests.system.kit import ROOT, running_up, until

MINUTES: Final = 5.0
KINDS: Final = ("kill", "kill", "pause")
AWAY_S: Final = (1.0, 15.0)
RESTS_S: Final = (0.5, 2.0, 4.0, 8.0, 15.0)
"""How long all three stand between two faults: often too short for the last to have caught up."""
EVERY_S: Final = 0.7
SETTLED_S: Final = 120.0
"""How long after the last fault every run must be over."""


class Load:
    """Events published one after the other, each until it is acknowledged."""

    def __init__(self, js: JetStreamContext) -> None:
        self.published = 0
        self.slowest_s = 0.0
        self.over = False
        self._js = js

    async def go(self) -> None:
        """Publish until it is over."""
        while not self.over:
            began = time.monotonic()
            await publish(self._js, self.published)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.published += 1
            await asyncio.sleep(EVERY_S)


async def storm(nodes: list[Node], random: Random, seconds: float) -> Counter[str]:
    """Take one server away at a time, and give how often each way; none stays away."""
    fired: Counter[str] = Counter()
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        node, kind, away_s = random.choice(nodes), random.choice(KINDS), random.uniform(*AWAY_S)
        say(f"  {kind} {node.name} ({away_s:.1f} s)")
        fired[kind] += 1
        if kind == "kill":
            node.kill()
            await asyncio.sleep(away_s)
            node.start()
            await until(lambda: answers(node), f"{node.name} to be back", PATIENCE_S)  # noqa: B023  (awaited here)
        else:
            node.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(away_s)
            node.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(random.choice(RESTS_S))
    return fired


async def settled(client: Client, published: int) -> Counter[int]:
    """Wait until every event has its run, and give how many each has."""
    deadline = time.monotonic() + SETTLED_S
    while True:
        found = await started(client)
        if len(found) >= published or time.monotonic() > deadline:
            return found
        await asyncio.sleep(1)


async def play(folder: Path, seed: int, seconds: float) -> bool:
    """Play a round; tells whether every event had its run once."""
    async with cluster(folder) as nodes:
        urls = [node.url for node in nodes]
        with running_up(folder / "up", ROOT, HEADRACE_NATS_URL=",".join(urls)) as up:
            await up.ready()
            async with outside(urls) as js, up.client() as client, asyncio.TaskGroup() as group:
                await client.apply(TRIGGERED)
                load = Load(js)
                publishing = group.create_task(load.go())
                fired = await storm(nodes, Random(seed), seconds)  # noqa: S311  (a schedule, no secret)
                load.over = True
                await publishing
                ended = time.monotonic()
                runs = await settled(client, load.published)
                told = ", ".join(f"{count} x {kind}" for kind, count in sorted(fired.items()))
                say(f"{told}; {load.published} events, the slowest acknowledged after {load.slowest_s:.1f} s")
                say(f"{len(runs)} have their run, the last {time.monotonic() - ended:.0f} s after the last fault")
                say(f"missing: {sorted(set(range(load.published)) - runs.keys())}")
                say(f"more than once: {sorted(number for number, count in runs.items() if count > 1)}")
                return runs == Counter(range(load.published))


def main(arguments: list[str]) -> int:
    """Play a round and tell what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cluster", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long servers are taken away")
    parser.add_argument("--seed", type=int, default=None, help="which faults; drawn and printed when not given")
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else secrets.randbelow(1_000_000)
    folder = Path(tempfile.mkdtemp(prefix=f"headrace-cluster-{seed}-"))
    folder.chmod(0o755)
    say(f"round of seed {seed} in {folder}")
    passed = asyncio.run(play(folder, seed, given.minutes * 60))
    say(f"{'PASSED' if passed else 'FAILED'}: seed {seed}")
    if passed:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
