"""An append as a commit: what a run alone pays, and what many share (PostgreSQL on this disk, with fsync)."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.micro import test_hot_path as parts
from headrace import codec, ids
from headrace.clock import SystemClock
from headrace.dev.embedded import EmbeddedPostgres
from headrace.log.migrate import migrate
from headrace.log.port import Appended, Batch, NewEvent
from headrace.log.postgres import PostgresLog
from headrace.vocabulary import LOG_RUNS

LEASE_S = 3_600.0
ROUNDS = 300
OWNER = "microbench"


class Appends:
    """Writes to one partition that it holds, of a log of its own."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._log = runner.run(PostgresLog.open(url, SystemClock()))
        held = runner.run(self._log.heartbeat(OWNER, {LOG_RUNS: parts.ROOM.format}, lease_s=LEASE_S)).tenures[0]
        self._partition, self._epoch, self._position = held.partition, held.epoch, held.last_position
        self._runs = itertools.count()
        self._now = SystemClock().now_ms()

    def batch(self, events: int) -> tuple[Any, Any]:
        """Give the arguments of an append of first events, each of a run of its own."""
        (_, (event,)) = parts.over()
        data, meta = codec.encode(event), parts.META
        runs = [
            ids.make(ids.RUN, self._now, next(self._runs).to_bytes(9, "big"), self._partition) for _ in range(events)
        ]
        made = Batch(
            log=LOG_RUNS,
            partition=self._partition,
            epoch=self._epoch,
            expected_position=self._position,
            events=[NewEvent(run, 1, "step.succeeded", 1, "default", self._now, data, meta) for run in runs],
        )
        self._position += events
        return (made,), {}

    def append(self, batch: Batch) -> Appended:
        """Commit it."""
        return self._runner.run(self._log.append_events([batch]))

    def close(self) -> None:
        """Let go of the log."""
        self._runner.run(self._log.close())


@pytest.fixture
def appends(tmp_path: Path) -> Iterator[Appends]:
    """Give a log of its own, on the disk where tests keep their files."""
    with EmbeddedPostgres(tmp_path / "postgres") as server, asyncio.Runner() as runner:
        runner.run(migrate(server.url))
        made = Appends(server.url, runner)
        yield made
        made.close()


@pytest.mark.parametrize("events", [1, 16, 256])
def test_append(benchmark: Any, appends: Appends, events: int) -> None:
    done = benchmark.pedantic(appends.append, setup=lambda: appends.batch(events), rounds=ROUNDS)
    assert not done.stale
