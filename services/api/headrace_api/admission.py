"""Who is let in: bearer tokens, their roles, and what each role may do.

A token reads `hr_<suffix of its id>_<secret>`; the catalogue keeps only a hash of the secret. The deciders check roles
again: what stands here spares a round trip and gives a clear refusal.
"""

import hmac
from collections import OrderedDict
from typing import Final

import msgspec

from headrace.client.tokens import parse
from headrace.clock import Clock
from headrace.errors import ForbiddenError, UnauthorizedError
from headrace.events.base import Actor
from headrace.keys import secret_hash
from headrace.log.port import Log
from headrace.vocabulary import Role
from headrace_api.feed import Heard

CACHE_S: Final = 5.0
CACHED_TOKENS_MAX: Final = 10_000

ANY: Final = frozenset(Role)
OPERATORS: Final = frozenset({Role.OPERATOR, Role.ADMIN})
DECIDERS: Final = frozenset({Role.APPROVER, Role.OPERATOR, Role.ADMIN})
ADMINS: Final = frozenset({Role.ADMIN})

MAY: Final[dict[str, frozenset[Role]]] = {
    "create_run": OPERATORS,
    "create_runs": OPERATORS,
    "act_on_run": DECIDERS,
    "act_on_runs": OPERATORS,
    "record_plan": OPERATORS,
    "simulate": OPERATORS,
    "request_authorization": OPERATORS,
    "decide_approval": DECIDERS,
    "decide_approvals": DECIDERS,
    "apply_workflow": OPERATORS,
    "put_workflow": OPERATORS,
    "trigger_workflow": OPERATORS,
    "publish_trigger": OPERATORS,
    "run_tool": OPERATORS,
    "act_on_worker": OPERATORS,
    "act_on_workers": OPERATORS,
    "run_dashboard": OPERATORS,
    "save_connection": ADMINS,
    "delete_connection": ADMINS,
    "create_token": ADMINS,
    "list_tokens": ADMINS,
    "revoke_token": ADMINS,
    "doctor": OPERATORS,
    "act_on_parked": OPERATORS,
}
"""Which roles a route needs, by its name; reading routes that are not listed are for every role, others for nobody.

Whether somebody is one of an approval's own roles is the gatekeeper's to say, so operators come that far too.
"""
NOBODY: Final[frozenset[Role]] = frozenset()
READING: Final = frozenset({"GET", "HEAD"})

PUBLIC: Final[dict[str, str]] = {
    "/api/healthz": "probes hold no token; it says only that the process lives, and which version it is",
    "/api/readyz": "probes hold no token; it names the parts that answer, nothing of what they keep",
    "/api/metrics": "scrapers hold no token; series carry no ids, names or contents of runs",
    "/": "a page for whoever comes with a browser: what this is and how to sign in, the same for every installation",
    "/api": "the same page",
    "/api/docs": "the same page",
    "/docs": "the same page",
    "/api/openapi.json": "the document is the same for every installation and is read before there is a token",
}
"""The paths that need no token, each with the reason."""
OWN_TOKEN: Final[dict[str, str]] = {
    "put_blob": "workers hold no access token: the route checks the token of their attempt",
    "get_blob": "workers hold no access token: the route checks the token of their attempt, or an access token",
}
"""The routes that check a token of their own instead of a caller's roles, each with the reason."""
BLOBS: Final = "/api/blobs/"


def needed(route: str, method: str) -> frozenset[Role]:
    """Give the roles that a route is for; a route that changes something and is not listed is for nobody."""
    return MAY.get(route, ANY if method in READING else NOBODY)


def token_needed(path: str) -> bool:
    """Tell whether a path is for callers with an access token only: every one that is not named here."""
    return path not in PUBLIC and not path.startswith(BLOBS)


class Caller(msgspec.Struct, frozen=True):
    """Who makes a request, for which workspace, within which trace."""

    actor: Actor
    workspace: str
    traceparent: str | None = None

    def require(self, route: str, method: str) -> None:
        """Refuse a caller whose roles do not reach; raises ForbiddenError naming the roles that do."""
        wanted = needed(route, method)
        if wanted.isdisjoint(self.actor.roles):
            held = ", ".join(self.actor.roles) or "no role"
            told = ", ".join(sorted(role.value for role in wanted))
            message = f"token {self.actor.name!r} has {held}; " + (
                f"this needs one of: {told}" if wanted else f"{route!r} names no role that it is for"
            )
            raise ForbiddenError(message, details={"needed": sorted(wanted), "held": list(self.actor.roles)})


class Held(msgspec.Struct):
    """A token as the catalogue last said, and when that was read (monotonic seconds)."""

    actor: Actor
    workspace: str
    hash: str
    read_at: float


class Tokens:
    """Access tokens, cached for seconds and dropped when the feed says that one changed."""

    def __init__(self, log: Log, clock: Clock, *, cache_s: float = CACHE_S) -> None:
        self._log, self._clock, self.cache_s = log, clock, cache_s
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._changes = 0

    def forget(self, event: Heard) -> None:
        """Drop a token that a committed event changed."""
        self._held.pop(event.subject, None)
        self._changes += 1

    async def check_stands(self, caller: Caller) -> None:
        """Refuse a caller whose token was revoked since it was let in; raises UnauthorizedError.

        Asked again whenever the feed says that the token changed, and at most `cache_s` later should that be lost.
        """
        if await self._known(caller.actor.id) is None:
            message = "the access token was revoked"
            raise UnauthorizedError(message)

    async def caller(self, text: str | None, traceparent: str | None) -> Caller:
        """Give who a token stands for; raises UnauthorizedError for none, an unknown or a revoked one."""
        if not text:
            message = "no access token was given: send `Authorization: Bearer hr_…` or `X-API-Key: hr_…`"
            raise UnauthorizedError(message)
        token_id, secret = parse(text)
        held = await self._known(token_id)
        if held is None or not hmac.compare_digest(held.hash, secret_hash(secret)):
            message = "the access token is unknown or revoked"
            raise UnauthorizedError(message)
        return Caller(held.actor, held.workspace, traceparent)

    async def _known(self, token_id: str) -> Held | None:
        held = self._held.get(token_id)
        if held is None or self._clock.monotonic() - held.read_at > self.cache_s:
            held = await self._read(token_id)
        return held

    async def _read(self, token_id: str) -> Held | None:
        self._held.pop(token_id, None)
        changes = self._changes
        row = await self._log.row("tokens", {"id": token_id})
        if row is None or row["revoked_at"] is not None:
            return None
        actor = Actor(id=row["id"], name=row["name"], roles=tuple(row["roles"] or ()))
        held = Held(actor, row["workspace"], row["secret_hash"], self._clock.monotonic())
        if changes != self._changes:
            return held  # what was read may be from before a change: good for this request, not to be kept
        self._held[token_id] = held
        while len(self._held) > CACHED_TOKENS_MAX:
            self._held.popitem(last=False)
        return held


def bearer(headers: dict[bytes, str]) -> str | None:
    """Give the token of a request, from `Authorization: Bearer` or `X-API-Key`."""
    scheme, _, token = headers.get(b"authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get(b"x-api-key") or None
