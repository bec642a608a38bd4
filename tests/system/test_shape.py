"""What a step costs in statements, appends, events and messages, and what rest costs: the shape of it, not the seconds.

Whoever makes each step read the database once more, or say one message more, meets these bounds. They hold for a whole
installation as shipped, and do not depend on how fast the machine is.
"""

import asyncio
from typing import Any, NamedTuple

import asyncpg
import nats
import pytest

from headrace.client.client import Client
from headrace.vocabulary import FUSE_S, FUSE_SEND_S
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
FUSED_EVENTS_A_RUN_MAX = 3.0
"""That it was queued, began and succeeded; besides, each message of results is one event (the bus may carry those of several runs as one)."""
FUSED_STATEMENTS_A_RUN_MAX = 5.0
"""Its creation reads the plan and writes; besides, each message of results is one append at most."""
FUSED_APPENDS_A_RUN_MAX = 1.5
FUSED_ORDERS_A_RUN_MAX = 1.0
CHAINS = """
select coalesce(sum(1 + ms / $2), 0)::int as messages, coalesce(sum(ms / $3), 0)::int as more
  from (select max(finished_at) - min(started_at) as ms from headrace.steps where run_id > $1 group by run_id) chains
"""
"""How many messages of results chains may send, one each FUSE_SEND_S that they took, and how many more orders they need."""
NEWEST = "select max(id) from headrace.runs"
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


class Cost(NamedTuple):
    """What RUNS runs cost: statements but for our own; messages that may be due to how long their chains took."""

    statements: int
    events: int
    appends: int
    orders: int
    reports: int
    reports_max: int
    more_orders: int


FUSED: dict[str, Any] = {**SPEC, "spec": {**SPEC["spec"], "fuse": True}}


async def _cost(site: Site, spec: dict[str, Any]) -> Cost:
    """Let RUNS runs end, after two that warm up."""
    (site.root / "small.txt").write_text("small\n")
    connection = await asyncpg.connect(site.postgres.url)
    async with site.up.client() as client:
        digest = (await client.record_plan(spec))["digest"]
        await _run_all(client, digest, 2, connection)
        newest = await connection.fetchval(NEWEST)
        before, told = await _counts(connection), await _messages(site)
        looks = await _run_all(client, digest, RUNS, connection)
        after, told_after = await _counts(connection), await _messages(site)
        chains = await connection.fetchrow(CHAINS, newest, int(FUSE_SEND_S * 1000), int(FUSE_S * 1000))
    await connection.close()
    statements, events, appends = (late - early for late, early in zip(after, before, strict=True))
    orders, reports = (late - early for late, early in zip(told_after, told, strict=True))
    assert chains is not None
    return Cost(statements - looks - OWN, events, appends, orders, reports, chains["messages"], chains["more"])


async def test_a_step_costs_a_bounded_number_of_statements_appends_events_and_messages(site: Site) -> None:
    cost = await _cost(site, SPEC)
    steps = RUNS * STEPS
    assert cost.events <= steps * EVENTS_A_STEP_MAX + RUNS * EVENTS_A_RUN_MAX
    assert cost.appends <= cost.events
    assert cost.statements <= steps * STATEMENTS_A_STEP_MAX + RUNS * STATEMENTS_A_RUN_MAX
    assert cost.orders + cost.reports <= steps * MESSAGES_A_STEP_MAX + RUNS * MESSAGES_A_RUN_MAX


async def test_a_chain_of_steps_costs_what_one_step_does(site: Site) -> None:
    """A worker keeps results back for FUSE_SEND_S: a chain that a busy machine draws out sends several messages."""
    cost = await _cost(site, FUSED)
    assert cost.orders <= RUNS * FUSED_ORDERS_A_RUN_MAX + cost.more_orders, cost
    assert cost.reports <= cost.reports_max, cost
    assert cost.events <= RUNS * FUSED_EVENTS_A_RUN_MAX + cost.reports_max, cost
    assert cost.appends <= RUNS * FUSED_APPENDS_A_RUN_MAX + cost.reports_max, cost
    assert cost.statements <= RUNS * FUSED_STATEMENTS_A_RUN_MAX + cost.reports_max, cost


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


async def _messages(site: Site) -> tuple[int, int]:
    """Count the messages that streams of work, and inboxes, have taken in so far."""
    client = await nats.connect(site.nats.url)
    try:
        infos = await client.jetstream().streams_info()
    finally:
        await client.close()
    taken = [(str(info.config.name), info.state.last_seq) for info in infos]
    return sum(count for name, count in taken if "_work_" in name), sum(
        count for name, count in taken if "_inbox_" in name
    )
