"""One suite over every log: a purged run loses its rows and what it printed in the append of its event, and no other does."""

from headrace.clock import mint
from headrace.decider import Row
from headrace.log.port import Log
from headrace.log.tables import OF_A_RUN, TABLES
from headrace.wire import Line
from tests.contracts.log_kit import CLOCK, batch, claim, event


def rows_of(run: str, parent: str) -> list[Row]:
    """Give a row in every table that has some of runs: of the run, of its step, of itself as its parent's child."""
    return [
        Row("runs", {"id": run, "workspace": "w", "partition": 0, "version": 1, "status": "succeeded"}),
        Row("steps", {"run_id": run, "step": "s", "workspace": "w"}),
        Row("artifacts", {"id": f"art_{run}", "run_id": run, "workspace": "w", "created_at": 1}),
        Row("children", {"id": run, "workspace": "w", "parent_id": parent}),
        Row("waits", {"id": f"wait_{run}", "run_id": run, "workspace": "w"}),
    ]


def line(run: str) -> Line:
    return Line(run_id=run, attempt_id=f"att_{run}", sequence=1, step="s", at=1, text="said", workspace="w")


async def left(log: Log, run: str) -> set[str]:
    """Name the tables, and `lines`, that still have something of a run."""
    found = {
        name for name, column in OF_A_RUN.items() if await log.rows(name, {column: run}, order=TABLES[name].key[-1])
    }
    return found | ({"lines"} if await log.read_lines(run) else set())


async def test_a_purged_run_loses_its_rows_and_what_it_printed_and_no_other_does(any_log: Log) -> None:
    tenure = (await claim(any_log))[0]
    going, child, other = (mint(CLOCK, "run", 0) for _ in range(3))
    begun = [event(run, 1) for run in (going, child, other)]
    rows = [row for run, parent in ((going, "none"), (child, going), (other, going)) for row in rows_of(run, parent)]
    await any_log.append_events([batch(tenure, *begun, rows=rows)])
    await any_log.put_lines([line(run) for run in (going, child, other)])
    everything = {*OF_A_RUN, "lines"}
    assert {row.table for row in rows} == set(OF_A_RUN)
    for run in (going, child, other):
        assert await left(any_log, run) == everything
    await any_log.append_events([batch(tenure, event(child, 2, name="run.purged"), after=3)])
    assert await left(any_log, child) == set()
    assert await left(any_log, going) == await left(any_log, other) == everything
    assert [one.type for one in await any_log.stream("runs", child)] == ["run.queued", "run.purged"]
