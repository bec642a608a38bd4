"""Runs by hand, written to a real log: histories of the run room, of any month, as an owner would have appended them."""

from typing import Any

from headrace import codec, ids
from headrace.log.port import Batch, NewEvent
from headrace.log.postgres import PostgresLog
from headrace.vocabulary import LOG_RUNS
from tests.planner.runs_kit import Sim, call, plan

OWNER = "owner"
LEASE_S = 60.0
FORMATS = {LOG_RUNS: 1, "approvals": 1, "catalogue": 1}
META = codec.dumps({"actor": {"id": "tok_ann", "name": "ann"}, "cause": "test"})
READS = plan(call("one"), call("two", "one"))
WRITES = plan(call("one"), call("two", "one", tool="write"))


def run_at(at_ms: int, partition: int, number: int, the_plan: Any = READS) -> Sim:
    """Give a run that does not exist yet, with an id made at a time."""
    sim = Sim(the_plan, now=at_ms)
    sim.id = ids.make(ids.RUN, at_ms, number.to_bytes(9, "big"), partition)
    sim.run = sim.room.initial(sim.id, sim.workspace)
    return sim


def events_of(sim: Sim) -> list[NewEvent]:
    """Give a whole history as it is appended."""
    return [
        NewEvent(sim.id, version, event.type_name(), event.SCHEMA, sim.workspace, at, codec.encode(event), META)
        for version, (event, at) in enumerate(sim.history, 1)
    ]


async def write(log: PostgresLog, *sims: Sim) -> None:
    """Append whole histories with their rows and plans: what begins one, what ends it, and what lies between, each alone."""
    for sim in sims:
        holdings = await log.heartbeat(OWNER, FORMATS, lease_s=LEASE_S)
        partition = ids.partition_of(sim.id)
        held = next(one for one in holdings.tenures if (one.log, one.partition) == (LOG_RUNS, partition))
        events = events_of(sim)
        position = held.last_position
        for some in filter(None, (events[:1], events[1:-1], events[1:][-1:])):
            batch = Batch(log=LOG_RUNS, partition=partition, epoch=held.epoch, expected_position=position, events=some)
            if some[-1] is events[-1]:
                batch.rows, batch.blobs = list(sim.room.rows(sim.run, None)), dict(sim.shelf.bodies)
            assert not (await log.append_events([batch])).stale
            position += len(some)
