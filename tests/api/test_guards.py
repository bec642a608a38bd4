"""Every route of the application, walked: nobody passes without a good token, and a viewer changes nothing."""

import re
from collections.abc import AsyncIterator
from typing import Annotated

import httpx2
import pytest
from fastapi import APIRouter, Body, FastAPI, Response

from headrace_api.admission import OWN_TOKEN, PUBLIC, READING
from headrace_api.app import PREFIX, make_routes
from headrace_api.asking import Asked
from headrace_api.front import Front
from headrace_api.guarding import Door, check, doors
from tests.api.kit import World, until

PARAMETER = re.compile(r"\{[^}]+\}")
LATER = "later_"


def walk(world: World) -> list[Door]:
    """Give every way in, from the application's own routes: a new route is walked without anyone remembering."""
    found = doors(make_routes(world.desk))
    assert len(found) > 50
    return found


async def status(http: httpx2.AsyncClient, door: Door) -> int:
    body: dict[str, str] | None = None if door.method in READING else {}
    response = await http.request(door.method, PARAMETER.sub("x", door.path), json=body)
    assert response.headers["x-request-id"], door
    return response.status_code


async def revoked(world: World) -> str:
    token = await world.mint("admin", name="leaver")
    async with world.http() as http, httpx2.AsyncClient(base_url=world.url, headers={"X-API-Key": token}) as leaver:
        me = (await leaver.get("/api/me")).json()
        assert (await http.delete(f"/tokens/{me['id']}")).status_code == 200

        async def refused() -> bool:
            return (await leaver.get("/api/me")).status_code == 401

        await until(refused)
    return token


@pytest.mark.parametrize("kind", ["none", "nonsense", "unknown", "wrong secret", "revoked", "basic"])
async def test_no_route_lets_anybody_in_without_a_good_token_row_87(world: World, kind: str) -> None:
    good = world.tokens["admin"]
    leavers = await revoked(world) if kind == "revoked" else ""
    headers = {
        "none": {},
        "nonsense": {"Authorization": "Bearer nonsense"},
        "unknown": {"X-API-Key": "hr_00000000000000000000000000_" + "x" * 43},
        "wrong secret": {"Authorization": f"Bearer {good[:-1]}{'a' if good[-1] != 'a' else 'b'}"},
        "revoked": {"Authorization": f"Bearer {leavers}"},
        "basic": {"Authorization": f"Basic {good}"},
    }[kind]
    async with httpx2.AsyncClient(base_url=world.url, headers=headers) as http:
        found = {door: await status(http, door) for door in walk(world)}
    let_in = {f"{door.method} {door.path}": code for door, code in found.items() if code != 401}
    assert let_in == {f"GET {path}": 200 for path in PUBLIC}


async def test_a_viewer_changes_nothing_anywhere(world: World) -> None:
    mutating = [door for door in walk(world) if door.method not in READING]
    async with httpx2.AsyncClient(
        base_url=world.url, headers={"Authorization": f"Bearer {world.tokens['viewer']}"}
    ) as http:
        found = {door: await status(http, door) for door in mutating}
    assert len(found) > 15
    for door, code in found.items():
        # What workers put goes by the token of an attempt, which a viewer's is not; what is not built is nobody's.
        expected = 401 if door.name in OWN_TOKEN else 404 if door.name.startswith(LATER) else 403
        assert code == expected, door


@pytest.fixture
async def careless(world: World) -> AsyncIterator[tuple[FastAPI, httpx2.AsyncClient]]:
    """An application with two routes that somebody added in a hurry."""
    router = APIRouter()

    @router.post("/forgotten", name="forgotten")
    async def forgotten(asked: Asked, body: Annotated[dict[str, str], Body()]) -> Response:
        return Response(status_code=204)

    @router.get("/open", name="open")
    async def wide_open() -> Response:
        return Response(status_code=204)

    app = make_routes(world.desk)
    app.include_router(router, prefix=PREFIX)
    headers = {"Authorization": f"Bearer {world.tokens['admin']}"}
    transport = httpx2.ASGITransport(app=Front(app, world.desk))
    async with httpx2.AsyncClient(base_url="http://api", transport=transport, headers=headers) as http:
        yield app, http


async def test_a_route_that_changes_something_and_names_no_roles_is_for_nobody(
    careless: tuple[FastAPI, httpx2.AsyncClient],
) -> None:
    _, http = careless
    refused = await http.post("/api/forgotten", json={})
    assert refused.status_code == 403
    assert "'forgotten' names no role" in refused.json()["error"]["message"]


async def test_an_application_with_an_unguarded_route_does_not_start(
    careless: tuple[FastAPI, httpx2.AsyncClient], world: World
) -> None:
    app, _ = careless
    with pytest.raises(LookupError) as problem:
        check(app)
    assert "POST /api/forgotten (forgotten): changes something and has no row in admission.MAY" in str(problem.value)
    assert "GET /api/open (open): takes no `Asked`" in str(problem.value)
    check(make_routes(world.desk))
