"""`headrace get KIND [NAME]`: anything that is kept, listed or shown; and what workers and tools are there."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import typer

from headrace.cli.options import Out, Output, Token, Url, ago, body_shown, show, show_fields, show_table, work
from headrace.errors import MissingArgumentError, NotFoundError, ValidationError

if TYPE_CHECKING:
    from headrace.client.client import Client

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "workflows": ("name", "kind", "version", "valid", "plan_digest", "updated_at"),
    "dashboards": ("name", "version", "valid", "plan_digest", "updated_at"),
    "runs": ("id", "status", "waiting_for", "name", "created_at"),
    "plans": ("digest", "name", "kind", "gated", "created_at"),
    "approvals": ("id", "status", "subject", "step", "created_at"),
    "tools": ("name", "version", "effect", "access", "pool", "state", "success_count", "error_count"),
    "workers": ("id", "service", "status", "pools", "slots", "done_total", "last_seen_at"),
    "connections": ("name", "integration", "status", "secrets", "updated_at"),
    "flows": ("id", "kind", "key", "limit", "period_s", "held", "queued", "holders", "opens_at"),
    "tokens": ("id", "name", "roles", "created_at", "revoked_at"),
    "artifacts": ("id", "type", "label", "uri", "run_id", "created_at"),
}
SHORT: Final = {"wf": "workflows", "wfl": "workflows"}
ARTIFACTS: Final = "artifacts"
WITHOUT_ONE: Final = frozenset({"workers", "tokens", ARTIFACTS})
NAMED_BY: Final = ("id", "name", "digest")


def plural(kind: str) -> str:
    """Read a kind in singular, plural or short, in any case; raises ValidationError naming the known ones."""
    word = kind.lower()
    for known in (SHORT.get(word), word, f"{word}s"):
        if known in COLUMNS:
            return known
    message = f"unknown kind {kind!r}; known are: {', '.join(COLUMNS)}"
    raise ValidationError(message)


def _cell(item: Mapping[str, Any], column: str) -> str:
    value = item.get(column)
    if isinstance(value, list):
        return ", ".join(str(each["run_id"] if isinstance(each, dict) else each) for each in value)
    if column.endswith("_at"):
        return ago(value)
    return "" if value is None else str(value)


def get(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", show_default=False, help=f"One of: {', '.join(COLUMNS)}.")
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", show_default=False, help="Show this one instead of listing all.")
    ] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """List what is kept, or show one of it; of an artifact its body, as it was kept.

    Example: headrace get workflows; headrace get workflow hello -o json; headrace get artifact ID > report.txt
    """
    if kind is None:
        message = f"say what to list: {', '.join(COLUMNS)}"
        raise MissingArgumentError(message)
    noun = plural(kind)

    async def todo(api: "Client") -> None:
        if name is not None and noun == ARTIFACTS and output is Out.TEXT:
            body_shown(await api.download(name))
            return
        if name is not None and noun not in WITHOUT_ONE:
            body = await api.get(f"/{noun}/{quote(name)}")
            show(output, body, lambda: show_fields(list(body.items())))
            return
        items = [
            item
            async for item in api.pages(f"/{noun}")
            if name is None or name in {item.get(field) for field in NAMED_BY}
        ]
        if name is not None and not items:
            message = f"there is no {noun.removesuffix('s')} {name!r}"
            raise NotFoundError(message)
        show(output, {"items": items, "next_cursor": None}, lambda: _table(noun, items))

    work(url, token, todo)


def _table(noun: str, items: list[dict[str, Any]]) -> None:
    columns = COLUMNS[noun]
    names = [column.removesuffix("_at").replace("_", " ") for column in columns]
    show_table(names, [[_cell(item, column) for column in columns] for item in items])


def tools(
    name: Annotated[str | None, typer.Argument(help="Show this one with its schemas.")] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """List tools and how they have done."""
    get("tools", name, output, url, token)
