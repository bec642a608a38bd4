"""Children and waits on a real database, a real bus and processes that are killed."""

import asyncio
from typing import Any

import pytest

from headrace.client.client import Client
from tests.system.kit import Site, until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

LEAF = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: system-leaf}
spec:
  inputs: {n: {type: integer}}
  outputs: {n: "{{ steps.double.output }}"}
  steps:
    - {id: nap, wait: 3s}
    - {id: double, depends_on: [nap], transform: "{{ inputs.n * 2 }}"}
"""
TOP = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: system-top}
spec:
  outputs: "{{ steps.inner.output.n }}"
  steps:
    - {id: inner, sub_workflow: {workflow: system-leaf, with: {n: 21}}}
"""
WAITS = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: system-waits}
spec:
  outputs: {signal: "{{ steps.signal.output.data }}", event: "{{ steps.event.output.data.env }}"}
  steps:
    - {id: signal, wait: {signal: go.on, timeout: 10m}}
    - {id: event, depends_on: [signal], wait: {event: system.deployed, when: "event.env == 'live'", timeout: 10m}}
"""


async def standing(site: Site, run_id: str) -> dict[str, Any]:
    """Give a run's row as the database has it."""
    (row,) = await site.rows("select id, status, waiting_for, busy from headrace.runs where id = $1", run_id)
    return row


async def the_child(site: Site, run_id: str) -> str:
    async def there() -> str | None:
        rows = await site.rows("select id from headrace.children where parent_id = $1", run_id)
        return str(rows[0]["id"]) if rows else None

    return str(await until(there, "the child to be on record"))


async def test_a_planner_killed_between_a_childs_end_and_its_parents_record_loses_nothing(site: Site) -> None:
    """The bus is away while the child ends, so that its word is out nowhere when the planner is killed."""
    async with site.up.client() as client:
        await client.apply(LEAF)
        run = await client.create_run(spec=TOP)
        child = await the_child(site, run.id)
        await asyncio.to_thread(site.nats.kill)

        async def over() -> bool:
            return bool((await standing(site, child))["status"] == "succeeded")

        await until(over, "the child to end")
        assert (await standing(site, child))["busy"]
        assert (await standing(site, run.id))["status"] == "waiting"
        site.up.service("planner").kill()
        await asyncio.to_thread(site.nats.start)
        await site.finished(client, run.id)
        shown = await client.run(run.id)
        assert shown.outputs == 42
        assert [each.id for each in shown.children] == [child]
        parent = (await client.run(child)).parent
        assert parent is not None
        assert (parent.id, parent.instance) == (run.id, "inner")

        async def known() -> bool:
            return not (await standing(site, child))["busy"]

        await until(known, "the child to be confirmed")


async def waits_for(client: Client, run_id: str, what: str) -> None:
    async def there() -> bool:
        return (await client.run(run_id)).waiting_for == what

    await until(there, f"{run_id} to wait for {what}")


async def test_a_signal_and_an_event_of_the_real_bus_end_their_waits(site: Site) -> None:
    async with site.up.client() as client:
        run = await client.create_run(spec=WAITS)
        await waits_for(client, run.id, "signal")
        await client.signal(run.id, "go.on", {"by": "hand"}, signal_id="one")
        await client.signal(run.id, "go.on", {"by": "hand"}, signal_id="one")
        await waits_for(client, run.id, "event")
        await client.trigger("system.deployed", {"env": "test"})
        site.up.service("planner").kill()
        await client.trigger("system.deployed", {"env": "live"})
        await site.finished(client, run.id)
        assert (await client.run(run.id)).outputs == {"signal": {"by": "hand"}, "event": "live"}
