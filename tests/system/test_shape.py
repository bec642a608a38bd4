"""What a step costs in statements, appends, events and messages, and what rest costs: the shape of it, not the seconds.

Whoever makes each step read the database once more, or say one message more, meets these bounds. They hold for a whole
installation as shipped, and do not depend on how fast the machine is.
"""

import asyncio
from typing import Any

import asyncpg
import nats
import pytest

from headrace.client.client import Client
from tests.system.kit import Site, until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

STEPS = 10
RUNS = 40
EVENTS_A_STEP_MAX = 1.0
"""A step that reads leaves one event: that it succeeded, with its output."""
EVENTS_A_RUN_MAX = 4.0
STATEMENTS_A_STEP_MAX = 1.25
"""One append when steps come one by one; a fifth of that when many come at once."""
STATEMENTS_A_RUN_MAX = 12.0
MESSAGES_A_STEP_MAX = 2.0
"""An order and a report: both on streams. The feed's messages carry the events of a whole append."""
MESSAGES_A_RUN_MAX = 1.0
IDLE_LOOK_S = 6.0
IDLE_STATEMENTS_A_SECOND_MAX = 3.0
"""Two owners renew their leases every 1.5 s and look for what is due every 10 s: about two a second as measured."""
STATS_S = 2.0
WINDOWS_MAX = 8
"""Sessions of PostgreSQL that have nothing to do report what they did up to a minute later."""
OWN = 3
"""Statements of one count."""
SUCCEEDED = "select count(*) from headrace.runs where status = 'succeeded'"
TRANSACTIONS = "select xact_commit from pg_stat_database where datname = current_database()"
EVENTS = "select count(*) from headrace.events where log = 'runs'"
APPENDS = "select count(*) from headrace.chain where log = 'runs'"
FUSED_EVENTS_A_RUN_MAX = 6.0
"""Four, and few more where a machine was so slow that the results of a chain came in several messages."""
FUSED_STATEMENTS_A_RUN_MAX = 6.0
"""Its creation reads the plan and writes; all results of its chain come with one message and are one append."""
FUSED_APPENDS_A_RUN_MAX = 2.5
FUSED_MESSAGES_A_RUN_MAX = 2.5
"""An order and a report for all steps; few more where a machine was so slow that results were not kept back."""
SPEC: dict[str, Any] = {
    "apiVersion": "headrace/v1",
    "kind": "Workflow",
    "metadata": {"name": "shape"},
    "spec": {
        "fuse": False,
        "steps": [
            {
                "id": f"s{place}",
                "tool": "file_read",
                "with": {"path": "small.txt"},
                **({"depends_on": [f"s{place - 1}"]} if place else {}),
            }
            for place in range(STEPS)
        ],
    },
}
FUSED: dict[str, Any] = {**SPEC, "spec": {**SPEC["spec"], "fuse": True}}


async def _cost(site: Site, spec: dict[str, Any]) -> tuple[int, int, int, int]:
    """Let RUNS runs end, after two that warm up; gives statements (but for our own), events, appends and messages."""
    (site.root / "small.txt").write_text("small\n")
    connection = await asyncpg.connect(site.postgres.url)
    async with site.up.client() as client:
        digest = (await client.record_plan(spec))["digest"]
        await _run_all(client, digest, 2, connection)
        before, told = await _counts(connection), await _messages(site)
        looks = await _run_all(client, digest, RUNS, connection)
        after, told_after = await _counts(connection), await _messages(site)
    await connection.close()
    statements, events, appends = (late - early for late, early in zip(after, before, strict=True))
    return statements - looks - OWN, events, appends, told_after - told


async def test_a_step_costs_a_bounded_number_of_statements_appends_events_and_messages(site: Site) -> None:
    statements, events, appends, messages = await _cost(site, SPEC)
    steps = RUNS * STEPS
    assert events <= steps * EVENTS_A_STEP_MAX + RUNS * EVENTS_A_RUN_MAX
    assert appends <= events
    assert statements <= steps * STATEMENTS_A_STEP_MAX + RUNS * STATEMENTS_A_RUN_MAX
    assert messages <= steps * MESSAGES_A_STEP_MAX + RUNS * MESSAGES_A_RUN_MAX


async def test_a_chain_of_steps_costs_what_one_step_does(site: Site) -> None:
    statements, events, appends, messages = await _cost(site, FUSED)
    assert events <= RUNS * FUSED_EVENTS_A_RUN_MAX
    assert appends <= RUNS * FUSED_APPENDS_A_RUN_MAX
    assert statements <= RUNS * FUSED_STATEMENTS_A_RUN_MAX
    assert messages <= RUNS * FUSED_MESSAGES_A_RUN_MAX


async def test_an_installation_that_rests_asks_the_database_next_to_nothing(site: Site) -> None:
    connection = await asyncpg.connect(site.postgres.url)
    asked: list[int] = []
    while len(asked) < WINDOWS_MAX and not (
        asked and asked[-1] <= (IDLE_LOOK_S + STATS_S) * IDLE_STATEMENTS_A_SECOND_MAX
    ):
        before, _, _ = await _counts(connection)
        await asyncio.sleep(IDLE_LOOK_S)
        after, _, _ = await _counts(connection)
        asked.append(after - before - OWN)
    await connection.close()
    assert asked[-1] <= (IDLE_LOOK_S + STATS_S) * IDLE_STATEMENTS_A_SECOND_MAX, asked


async def _run_all(client: Client, digest: str, runs: int, connection: asyncpg.Connection) -> int:
    """Let runs begin and end; gives how often the database was asked for it, so that these statements can be left out."""
    wanted = await connection.fetchval(SUCCEEDED) + runs
    async with asyncio.TaskGroup() as group:
        for _ in range(runs):
            group.create_task(client.create_run(plan_digest=digest))
    looks = 1

    async def over() -> bool:
        nonlocal looks
        looks += 1
        return bool(await connection.fetchval(SUCCEEDED) >= wanted)

    await until(over, "all runs to succeed", 90.0)
    return looks


async def _counts(connection: asyncpg.Connection) -> tuple[int, int, int]:
    """Count statements, events and appends so far."""
    await asyncio.sleep(STATS_S)
    statements, events, appends = [await connection.fetchval(query) for query in (TRANSACTIONS, EVENTS, APPENDS)]
    return statements, events, appends


async def _messages(site: Site) -> int:
    """Count the messages that streams of work and inboxes have taken in so far."""
    client = await nats.connect(site.nats.url)
    try:
        infos = await client.jetstream().streams_info()
    finally:
        await client.close()
    return sum(
        info.state.last_seq for info in infos if "_work_" in str(info.config.name) or "_inbox_" in str(info.config.name)
    )
