"""Messages that were parked, as far as they are a workspace's to see: its own, and those that nobody can tell whose they are.

Whose a message is says the stream that it is about, else the message itself. A trigger event that is no JSON, say, is
everybody's: events are heard by all workspaces.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from headrace import codec, ids
from headrace.errors import HeadraceError
from headrace.log.port import Parked
from headrace_api.desk import Desk

TABLES: Final = {
    ids.RUN: "runs",
    ids.APPROVAL: "approvals",
    ids.FLOW: "flows",
    ids.WORKFLOW: "workflows",
    ids.PLAN: "plans",
    ids.TOKEN: "tokens",
    ids.CONNECTION: "connections",
    ids.TOOL: "tools",
}
"""Where the row of a stream is, by what its id begins with."""


async def seen(desk: Desk, workspace: str, wanted: Sequence[int] | None = None) -> list[Parked]:
    """Give the newest that a workspace may see; of `wanted` ids all that it may."""
    parked = await desk.log.parked() if wanted is None else await desk.log.parked(len(wanted), wanted)
    owners = await _owners(desk, {each.stream_id for each in parked if each.stream_id})
    return [each for each in parked if _whose(each, owners) in {workspace, None}]


async def _owners(desk: Desk, streams: Iterable[str]) -> dict[str, str]:
    """Give the workspaces of streams that have a row."""
    by_table: dict[str, list[str]] = {}
    for stream_id in streams:
        table = TABLES.get(stream_id.partition("_")[0])
        if table is not None:
            by_table.setdefault(table, []).append(stream_id)
    found: dict[str, str] = {}
    for table, named in by_table.items():
        rows = await desk.log.rows(table, {"id": named}, limit=len(named))
        found |= {row["id"]: row["workspace"] for row in rows}
    return found


def _whose(parked: Parked, owners: dict[str, str]) -> str | None:
    if parked.stream_id in owners:
        return owners[parked.stream_id]
    try:
        said = codec.loads(parked.body)
    except HeadraceError:
        return None
    first: Any = said[0] if isinstance(said, list) and said else said
    workspace = first.get("workspace") if isinstance(first, dict) else None
    return workspace if isinstance(workspace, str) and workspace else None
