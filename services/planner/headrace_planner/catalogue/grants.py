"""Tokens and connections, and what every definition's name must keep to (pure)."""

import re
from collections.abc import Sequence
from typing import Final

from headrace import ids
from headrace.decider import Context
from headrace.errors import ConflictError, NotFoundError, ValidationError
from headrace.events.catalogue import (
    CatalogueEvent,
    ConnectionDeleted,
    ConnectionSaved,
    TokenCreated,
    TokenRevoked,
    ToolManifest,
)
from headrace.ids import CONNECTION
from headrace.messages import CreateToken, SaveConnection
from headrace.policy import may
from headrace.specs.rates import SETTING, parse
from headrace.vocabulary import BAD_POOL, POOL_NAME, Access, Effect, Role
from headrace_planner.catalogue.state import Connection, Definition, Token

NOTHING: Final[Sequence[CatalogueEvent]] = ()
HASH: Final = re.compile(r"[0-9a-f]{64}")
REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:\S[^\x00]*")
"""A reference to a secret in one of the stores that every installation has."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def belongs(context: Context, kind: str, name: str) -> None:
    """Refuse a command that came to the stream of another definition; raises ValidationError."""
    if context.stream_id != ids.definition(kind, context.workspace, name):
        message = f"{name!r} does not belong to the stream {context.stream_id}"
        raise ValidationError(message)


def check_manifest(manifest: ToolManifest) -> None:
    """Refuse a tool whose manifest says what no tool can be; raises ValidationError naming the field."""
    if manifest.effect not in set(Effect) or manifest.access not in set(Access):
        message = (
            f"tool {manifest.name!r}: effect must be one of {', '.join(Effect)} and access one of {', '.join(Access)}, "
            f"not {manifest.effect!r} and {manifest.access!r}"
        )
        raise ValidationError(message)
    if not manifest.name or not manifest.pool:
        message = "a tool needs a name and a pool"
        raise ValidationError(message)
    if not POOL_NAME.fullmatch(manifest.pool):
        message = f"tool {manifest.name!r}: {BAD_POOL.format(manifest.pool)}"
        raise ValidationError(message)


def create_token(state: Definition, command: CreateToken, context: Context) -> Sequence[CatalogueEvent]:
    """Make an access token; raises ConflictError when its id is taken."""
    may(context.actor, "tokens")
    if state.thing is not None:
        message = f"the token id {command.token_id} is taken"
        raise ConflictError(message)
    if context.stream_id != command.token_id or not command.token_id.startswith(f"{ids.TOKEN}_"):
        message = f"the id of a token is its stream: {command.token_id!r} is not {context.stream_id!r}"
        raise ValidationError(message)
    unknown = sorted(set(command.roles) - set(Role))
    if unknown or not command.roles:
        message = f"a token needs at least one role of {', '.join(Role)}; not {', '.join(unknown) or 'none'}"
        raise ValidationError(message, details={"field": "roles"})
    if not command.name.strip() or not HASH.fullmatch(command.secret_hash):
        message = "a token needs a name and the sha256 of its secret as 64 hex digits"
        raise ValidationError(message, details={"field": "name"})
    created = TokenCreated(
        token_id=command.token_id,
        name=command.name,
        roles=command.roles,
        secret_hash=command.secret_hash,
        by=context.actor,
    )
    return (created,)


def revoke_token(state: Definition, context: Context) -> Sequence[CatalogueEvent]:
    """Make a token worthless; again is nothing."""
    may(context.actor, "tokens")
    token = state.thing
    if not isinstance(token, Token):
        message = f"there is no token {context.stream_id}"
        raise NotFoundError(message)
    return NOTHING if token.revoked_at is not None else (TokenRevoked(token_id=context.stream_id, by=context.actor),)


def save_connection(state: Definition, command: SaveConnection, context: Context) -> Sequence[CatalogueEvent]:
    """Connect an integration. A secret that is no reference is refused without being quoted; so is no rate limit."""
    may(context.actor, "connections")
    if not NAME.fullmatch(command.name) or not NAME.fullmatch(command.integration):
        message = "a connection and its integration are named by letters, digits, '_', '.' and '-'"
        raise ValidationError(message, details={"field": "integration" if NAME.fullmatch(command.name) else "name"})
    belongs(context, CONNECTION, command.name)
    for secret, reference in sorted(command.secrets.items()):
        if not REFERENCE.fullmatch(reference):
            message = f"secret {secret!r} must be a reference, env:NAME or file:PATH, never the secret itself"
            raise ValidationError(message, details={"field": f"secrets.{secret}"})
    if SETTING in command.settings:
        try:
            parse(command.settings[SETTING])
        except ValidationError as problem:
            raise ValidationError(problem.message, details={"field": f"settings.{SETTING}"}) from problem
    saved = ConnectionSaved(
        name=command.name,
        integration=command.integration,
        settings=command.settings,
        secrets=command.secrets,
        by=context.actor,
    )
    known = state.thing
    if isinstance(known, Connection) and not known.deleted and _same(known.saved, saved):
        return NOTHING
    return (saved,)


def delete_connection(state: Definition, context: Context) -> Sequence[CatalogueEvent]:
    """Take a connection away; again is nothing."""
    may(context.actor, "connections")
    known = state.thing
    if not isinstance(known, Connection):
        message = f"there is no connection {context.stream_id}"
        raise NotFoundError(message)
    return NOTHING if known.deleted else (ConnectionDeleted(name=known.saved.name, by=context.actor),)


def _same(one: ConnectionSaved, other: ConnectionSaved) -> bool:
    return (one.integration, one.settings, one.secrets) == (other.integration, other.settings, other.secrets)
