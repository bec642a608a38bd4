"""How many machines a rate takes: the measured cost a step of each part, put through a small queueing simulation.

Every part is a pool of cores with a queue. A step goes round: worker, NATS, its partition's owner, which takes all that
waits for it as one batch, PostgreSQL, NATS, worker. A batch costs its owner and PostgreSQL a fixed part and a part a step;
an owner decides the next batch while one commits, as the product does. Runs are chains of ten, arriving at random.
"""

import heapq
import random
import statistics
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

STEPS: Final = 10
SIMULATED_S: Final = 2.0
WARM_S: Final = 0.7
BATCH_MAX: Final = 500
COMMITS_AT_ONCE: Final = 2
"""Batches of one owner that are decided or commit at once."""
FLUSH_S: Final = 0.001
"""What a commit waits for its disk, beside its CPU."""
BUSY_MAX: Final = 0.7
"""A core that is busier than this answers late."""
FULL: Final = 0.98
P99_MAX_S: Final = 0.050
RATES: Final = (1_000, 3_000, 10_000)
BOUND_WITHIN: Final = 100
"""Steps/s to which the bound of one partition is looked for."""
SEED: Final = 1


class Costs(msgspec.Struct, frozen=True):
    """Seconds of CPU a step, and those that a batch of any size costs its owner and PostgreSQL."""

    worker: float
    nats: float
    planner: float
    planner_batch: float
    postgres: float
    postgres_batch: float


class Sizes(msgspec.Struct):
    """Cores of each part; `partitions` are spread over the planners, one core each."""

    planners: int
    workers: int
    postgres: int
    nats: int
    partitions: int = 16


ALONE: Final = Sizes(planners=1, workers=64, postgres=64, nats=64, partitions=1)


class Pool:
    """Cores with one queue."""

    def __init__(self, world: "World", cores: int) -> None:
        self._world, self._free, self._queue = world, cores, deque[tuple[float, Callable[[], None]]]()
        self.busy_s, self.cores = 0.0, cores

    def do(self, cost_s: float, then: Callable[[], None]) -> None:
        """Spend CPU on something, and go on."""
        if not self._free:
            self._queue.append((cost_s, then))
            return
        self._free -= 1
        self._begin(cost_s, then)

    def _begin(self, cost_s: float, then: Callable[[], None]) -> None:
        self.busy_s += cost_s

        def over() -> None:
            if self._queue:
                self._begin(*self._queue.popleft())
            else:
                self._free += 1
            then()

        self._world.after(cost_s, over)


class World:
    """A virtual clock and what is to happen."""

    def __init__(self) -> None:
        self.now, self._count = 0.0, 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, delay_s: float, then: Callable[[], None]) -> None:
        """Let something happen later."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay_s, self._count, then))

    def run(self, until_s: float) -> None:
        """Let time pass."""
        while self._heap and self._heap[0][0] <= until_s:
            self.now, _, then = heapq.heappop(self._heap)
            then()


class Owner:
    """A planner: one core, a queue of reports, and batches that commit while the next one is decided."""

    def __init__(self, world: World, costs: Costs, postgres: Pool) -> None:
        self._world, self._costs, self._postgres = world, costs, postgres
        self._core, self._waiting, self._under_way = Pool(world, 1), deque[Callable[[], None]](), 0

    @property
    def busy_s(self) -> float:
        """Give the CPU spent."""
        return self._core.busy_s

    def take(self, then: Callable[[], None]) -> None:
        """Take a report; `then` once it is committed."""
        self._waiting.append(then)
        self._turn()

    def _turn(self) -> None:
        if self._under_way >= COMMITS_AT_ONCE or not self._waiting:
            return
        batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
        self._under_way += 1
        appended = self._costs.postgres_batch + len(batch) * self._costs.postgres

        def committed() -> None:
            self._under_way -= 1
            for then in batch:
                then()
            self._turn()

        def decided() -> None:
            self._postgres.do(appended, lambda: self._world.after(FLUSH_S, committed))
            self._turn()

        self._core.do(self._costs.planner_batch + len(batch) * self._costs.planner, decided)


class Outcome(msgspec.Struct):
    """What a size gave: seconds from a step's order to the next one's, and how busy the busiest core of each part was."""

    p50_s: float
    p99_s: float
    busy: dict[str, float]
    kept_up: bool


def simulate(costs: Costs, sizes: Sizes, rate: int, seed: int = SEED) -> Outcome:
    """Let runs come at `rate` steps/s for a while."""
    world, chance = World(), random.Random(seed)  # noqa: S311  (a simulation that anybody can repeat)
    workers, nats, postgres = Pool(world, sizes.workers), Pool(world, sizes.nats), Pool(world, sizes.postgres)
    owners = [Owner(world, costs, postgres) for _ in range(min(sizes.planners, sizes.partitions))]
    taken: list[float] = []

    def step(owner: Owner, left: int) -> None:
        began = world.now

        def recorded() -> None:
            if world.now > WARM_S:
                taken.append(world.now - began)
            if left > 1:
                step(owner, left - 1)

        reported = lambda: nats.do(costs.nats / 2, lambda: owner.take(recorded))  # noqa: E731  (four hops, read in order)
        nats.do(costs.nats / 2, lambda: workers.do(costs.worker, reported))

    def arrive() -> None:
        partition = chance.randrange(sizes.partitions)
        step(owners[partition % len(owners)], STEPS)
        world.after(chance.expovariate(rate / STEPS), arrive)

    arrive()
    world.run(SIMULATED_S)
    cut = statistics.quantiles(taken, n=100) if len(taken) > 1 else [SIMULATED_S] * 99
    busy = {
        "planner": max(owner.busy_s for owner in owners),
        "worker": workers.busy_s / workers.cores,
        "postgres": postgres.busy_s / postgres.cores,
        "nats": nats.busy_s / nats.cores,
    }
    shares = {name: spent / SIMULATED_S for name, spent in busy.items()}
    return Outcome(cut[49], cut[98], shares, kept_up=max(shares.values()) < FULL)


def smallest(costs: Costs, rate: int) -> tuple[Sizes, Outcome]:
    """Find the fewest cores with which steps stay under P99_MAX_S and no part is busier than BUSY_MAX."""
    sizes = Sizes(
        planners=_cores(rate * costs.planner),
        workers=_cores(rate * costs.worker),
        postgres=_cores(rate * costs.postgres),
        nats=_cores(rate * costs.nats),
    )
    while True:
        sizes.partitions = max(16, 4 * sizes.planners)
        outcome = simulate(costs, sizes, rate)
        fullest = max(outcome.busy, key=lambda name: outcome.busy[name])
        if outcome.kept_up and outcome.p99_s <= P99_MAX_S and outcome.busy[fullest] <= BUSY_MAX:
            return sizes, outcome
        field = {"planner": "planners", "worker": "workers", "postgres": "postgres", "nats": "nats"}[fullest]
        setattr(sizes, field, getattr(sizes, field) + 1)


def _cores(busy: float) -> int:
    return max(1, round(busy / BUSY_MAX + 0.499))


def fitted(points: list[dict[str, Any]]) -> Costs:
    """Read the costs from a sweep over batches: what a step costs falls with the events of an append to a fixed part.

    Least squares of `us = fixed + batch / events` for the two parts that work in batches; the others as in the largest.
    """

    def line(part: str) -> tuple[float, float]:
        found = statistics.linear_regression(
            [1 / point["events_append"] for point in points], [point["us_step_of"][part] for point in points]
        )
        return max(found.intercept, 1.0) / 1e6, max(found.slope, 0.0) / 1e6

    planner, planner_batch = line("planner")
    postgres, postgres_batch = line("postgres")
    last = points[-1]["us_step_of"]
    return Costs(last["worker"] / 1e6, last["nats"] / 1e6, planner, planner_batch, postgres, postgres_batch)


def table(costs: Costs) -> list[str]:
    """Write the sizes for each rate as a table."""
    head = "| steps/s | planners (1 core each) | partitions | workers' cores | PostgreSQL's cores | NATS' cores | p50 | p99 |"
    lines = [head, "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for rate in RATES:
        sizes, outcome = smallest(costs, rate)
        lines.append(
            f"| {rate:,} | {sizes.planners} | {sizes.partitions} | {sizes.workers} | {sizes.postgres} | {sizes.nats} "
            f"| {outcome.p50_s * 1_000:.1f} ms | {outcome.p99_s * 1_000:.1f} ms |"
        )
    low, high = 0, round(1.2 / costs.planner)
    while high - low > BOUND_WITHIN:
        middle = (low + high) // 2
        low, high = (middle, high) if simulate(costs, ALONE, middle).kept_up else (low, middle)
    lines += ["", f"One partition, with everything else to spare, takes about {low:,} steps/s: its owner is one core."]
    return lines
