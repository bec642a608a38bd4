"""Bodies by digest: to know a digest is no right to read what it names."""

from typing import Any

import httpx2
import pytest

from headrace import codec
from tests.api.kit import BIG, SECRET, WORKSPACE, World, step, workflow

BODY = b"the other workspace's report"
DIGEST = codec.sha256(BODY)
ELSEWHERE = "elsewhere"


def attempt(world: World, workspace: str, *digests: str) -> dict[str, str]:
    """Give the headers of a worker that performs an attempt of a workspace."""
    token = world.keys.blob_token("att_1", workspace, world.clock.now_ms() + 60_000, digests)
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def blobs(world: World) -> Any:
    async with httpx2.AsyncClient(base_url=f"{world.url}/api/blobs") as http:
        yield http


async def test_an_attempt_reads_the_bodies_of_its_own_workspace_only(blobs: httpx2.AsyncClient, world: World) -> None:
    there, here = attempt(world, ELSEWHERE), attempt(world, WORKSPACE)
    assert (await blobs.put(f"/{DIGEST}", content=BODY, headers=there)).status_code == 201
    assert (await blobs.get(f"/{DIGEST}", headers=there)).content == BODY
    refused, unknown = (
        await blobs.get(f"/{DIGEST}", headers=here),
        await blobs.get(f"/{codec.sha256(b'')}", headers=here),
    )
    assert (refused.status_code, unknown.status_code) == (404, 404)
    # Whether another workspace has it is not told either: the words are those for a body that nobody has.
    told = [
        each.json()["error"]["message"].replace(DIGEST, "…").replace(codec.sha256(b""), "…")
        for each in (refused, unknown)
    ]
    assert told[0] == told[1]


async def test_who_puts_the_same_body_has_it_too_and_it_is_kept_once(blobs: httpx2.AsyncClient, world: World) -> None:
    for workspace in (ELSEWHERE, WORKSPACE, WORKSPACE):
        put = await blobs.put(f"/{DIGEST}", content=BODY, headers=attempt(world, workspace))
        assert put.status_code == 201
        assert (await blobs.get(f"/{DIGEST}", headers=attempt(world, workspace))).content == BODY
    assert (await blobs.put(f"/{DIGEST}", content=b"other", headers=attempt(world, "third"))).status_code == 400
    assert (await blobs.get(f"/{DIGEST}", headers=attempt(world, "third"))).status_code == 404


async def test_what_its_order_names_an_attempt_may_read(blobs: httpx2.AsyncClient, world: World) -> None:
    await world.log.put_blob(DIGEST, BODY)
    assert (await blobs.get(f"/{DIGEST}", headers=attempt(world, WORKSPACE))).status_code == 404
    assert (await blobs.get(f"/{DIGEST}", headers=attempt(world, WORKSPACE, DIGEST))).content == BODY


async def test_large_arguments_reach_the_worker_they_are_ordered_from(world: World) -> None:
    async with world.client() as client:
        two = {"id": "two", "tool": "echo", "with": {"value": "{{ steps.one.output.text }}"}}
        run = await client.create_run(spec=workflow("w", [step("big"), {**two, "depends_on": ["one"]}]), wait_s=20)
    assert run.status == "succeeded", run.error
    order = next(order for order in world.ordered if order.step == "two")
    assert order.arguments_blob is not None
    headers = {"Authorization": f"Bearer {order.blob_token}"}
    async with httpx2.AsyncClient(base_url=f"{world.url}/api/blobs", headers=headers) as http:
        assert codec.loads((await http.get(f"/{order.arguments_blob}")).content) == {"value": BIG}


async def test_a_callers_row_that_names_a_body_of_others_does_not_open_it(world: World) -> None:
    async with world.client() as client:
        run = await client.create_run(spec=workflow("w", [step("stolen")]), wait_s=20)
    await world.log.put_blob(codec.sha256(SECRET), SECRET, ELSEWHERE)
    digest = codec.sha256(SECRET)
    async with world.http() as http:
        for path in (f"/artifacts/{digest}", f"/blobs/{digest}", f"/runs/{run.id}/steps/one/output"):
            refused = await http.get(path)
            assert refused.status_code == 404, path
            assert SECRET not in refused.content
