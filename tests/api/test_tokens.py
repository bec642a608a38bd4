"""Who is let in, without a server: how a token is read, how long what is known of it counts, and whom a route is for."""

from typing import Any

import pytest

from headrace.client.tokens import NewToken, mint
from headrace.errors import ForbiddenError, UnauthorizedError
from headrace.events.base import Actor
from headrace.keys import secret_hash
from headrace.vocabulary import Role
from headrace_api.admission import ANY, CACHE_S, CACHED_TOKENS_MAX, NOBODY, Caller, Tokens, bearer, needed, token_needed
from headrace_api.feed import Heard

TOKEN = mint(bytes(range(48)))


class Time:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.s = 100.0

    def monotonic(self) -> float:
        return self.s


class Shelf:
    """The table of tokens; `while_reading` happens between the read and its answer."""

    def __init__(self) -> None:
        self.row_of = row(TOKEN)
        self.reads = 0
        self.while_reading: Any = None

    async def row(self, table: str, key: dict[str, Any]) -> dict[str, Any] | None:
        assert table == "tokens"
        self.reads += 1
        found = dict(self.row_of, id=key["id"]) if key["id"] == TOKEN.id or self.row_of.get("any") else None
        if self.while_reading is not None:
            self.while_reading()
        return found


def row(token: NewToken, **more: Any) -> dict[str, Any]:
    given = {"id": token.id, "name": "ci", "roles": ["operator"], "workspace": "default", "revoked_at": None}
    return {**given, "secret_hash": secret_hash(token.secret), **more}


def desk() -> tuple[Tokens, Shelf, Time]:
    shelf, time = Shelf(), Time()
    return Tokens(shelf, time), shelf, time  # type: ignore[arg-type]  # the parts of a log and a clock that are used


def heard(subject: str) -> Heard:
    return Heard(type="token.revoked", subject=subject, log="catalogue")


async def test_a_token_stands_for_its_actor_and_is_read_once_while_it_is_known() -> None:
    tokens, shelf, time = desk()
    caller = await tokens.caller(TOKEN.text, "trace")
    assert caller == Caller(Actor(id=TOKEN.id, name="ci", roles=("operator",)), "default", "trace")
    time.s += CACHE_S
    await tokens.caller(TOKEN.text, None)
    assert shelf.reads == 1
    time.s += 0.1
    await tokens.caller(TOKEN.text, None)
    assert shelf.reads == 2


@pytest.mark.parametrize("text", [None, "", "hr_nonsense", TOKEN.text[:-1] + "?", mint(bytes(48)).text])
async def test_what_is_no_known_token_lets_nobody_in(text: str | None) -> None:
    tokens, _, _ = desk()
    with pytest.raises(UnauthorizedError):
        await tokens.caller(text, None)


async def test_a_revoked_token_lets_nobody_in_once_the_feed_or_the_time_has_said_so() -> None:
    tokens, shelf, time = desk()
    caller = await tokens.caller(TOKEN.text, None)
    shelf.row_of["revoked_at"] = 1
    await tokens.check_stands(caller)
    tokens.forget(heard("tok_other"))
    await tokens.check_stands(caller)
    tokens.forget(heard(TOKEN.id))
    with pytest.raises(UnauthorizedError, match="revoked"):
        await tokens.check_stands(caller)
    with pytest.raises(UnauthorizedError):
        await tokens.caller(TOKEN.text, None)
    silent, shelf, time = desk()
    caller = await silent.caller(TOKEN.text, None)
    shelf.row_of["revoked_at"], time.s = 1, time.s + CACHE_S + 0.1
    with pytest.raises(UnauthorizedError):
        await silent.check_stands(caller)


async def test_what_was_read_while_something_changed_is_read_again() -> None:
    tokens, shelf, _ = desk()
    shelf.while_reading = lambda: tokens.forget(heard(TOKEN.id))
    await tokens.caller(TOKEN.text, None)
    shelf.while_reading = None
    await tokens.caller(TOKEN.text, None)
    await tokens.caller(TOKEN.text, None)
    assert shelf.reads == 2


async def test_so_many_tokens_are_known_and_no_more() -> None:
    tokens, shelf, _ = desk()
    shelf.row_of["any"] = True
    caller = await tokens.caller(TOKEN.text, None)
    for number in range(CACHED_TOKENS_MAX):
        await tokens.check_stands(Caller(Actor(id=f"tok_{number}", name="n"), "default"))
    assert len(tokens._held) == CACHED_TOKENS_MAX
    before = shelf.reads
    await tokens.check_stands(caller)
    assert shelf.reads == before + 1, "the oldest was let go"


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({b"authorization": "Bearer hr_1"}, "hr_1"),
        ({b"authorization": "bearer  hr_1 "}, "hr_1"),
        ({b"x-api-key": "hr_2"}, "hr_2"),
        ({b"authorization": "Bearer hr_1", b"x-api-key": "hr_2"}, "hr_1"),
        ({b"authorization": "Bearer ", b"x-api-key": "hr_2"}, "hr_2"),
        ({b"authorization": "Basic hr_1"}, None),
        ({b"x-api-key": ""}, None),
        ({}, None),
    ],
)
def test_a_token_comes_as_bearer_or_as_api_key(headers: dict[bytes, str], token: str | None) -> None:
    assert bearer(headers) == token


def test_a_route_that_changes_something_and_is_not_listed_is_for_nobody() -> None:
    assert needed("forgotten", "POST") == needed("forgotten", "DELETE") == NOBODY
    assert needed("forgotten", "GET") == ANY == frozenset(Role)
    viewer = Caller(Actor(id="tok_v", name="v", roles=("viewer",)), "default")
    viewer.require("list_runs", "GET")
    for route, told in (("create_run", "admin, operator"), ("forgotten", "names no role")):
        with pytest.raises(ForbiddenError, match=told):
            viewer.require(route, "POST")
    with pytest.raises(ForbiddenError, match="no role"):
        Caller(Actor(id="tok_n", name="n"), "default").require("list_runs", "GET")
    for route in ("list_tokens", "create_token", "save_connection"):
        assert needed(route, "GET") == frozenset({Role.ADMIN})


def test_only_named_paths_need_no_token() -> None:
    for path in ("/api/healthz", "/api/openapi.json", "/", "/api/blobs/sha256:1"):
        assert not token_needed(path)
    for path in ("/api/runs", "/api/blobs", "/api/healthz/", "/api/tokens", "/api/metrics/x"):
        assert token_needed(path)
