"""A run's parent and its children, as callers meet them."""

from collections.abc import Mapping
from itertools import batched
from typing import Any, Final

from fastapi import Response

from headrace import ids
from headrace.vocabulary import PAGE_MAX, WaitingFor
from headrace_api import cursors, performing, views
from headrace_api.answers import answer
from headrace_api.asking import Asking, Paging

SHOWN_MAX: Final = PAGE_MAX
"""Children that a run shows, the newest; `headrace runs list --parent` pages through all."""

Row = Mapping[str, Any]


def _relative(link: Row, run_id: str, row: Row | None) -> dict[str, Any]:
    return {
        "id": run_id,
        "status": row["status"] if row else None,
        "waiting_for": row["waiting_for"] if row else None,
        "name": row["name"] if row else None,
        "step": link["step"],
        "instance": ids.instance(link["step"], link["item"], link["iteration"] or 0),
        "attempt": link["attempt"],
        "depth": link["depth"],
        "created_at": views.at(row["created_at"]) if row else None,
    }


async def _runs(asked: Asking, found: list[str], where: Row | None = None) -> dict[str, dict[str, Any]]:
    """Read runs by their ids, at most PAGE_MAX."""
    if not found:
        return {}
    statuses = (where or {}).get("status")
    wanted = {"workspace": asked.workspace, **(where or {}), "id": found}
    wanted.pop("status", None)
    performed = performing.Performed(asked.desk.presence)
    rows = [performed.shown(row) for row in await asked.desk.log.rows("runs", wanted, limit=PAGE_MAX)]
    return {row["id"]: row for row in rows if not statuses or row["status"] in statuses}


async def parent(asked: Asking, row: Row) -> dict[str, Any] | None:
    """Give the run that a run was made by, and the step that it performs there."""
    link = await asked.desk.own_row("children", {"id": row["id"]}, asked.workspace)
    if link is None:
        return None
    rows = await _runs(asked, [link["parent_id"]])
    return _relative(link, link["parent_id"], rows.get(link["parent_id"]))


async def children(asked: Asking, run_id: str) -> tuple[list[dict[str, Any]], int]:
    """Give a run's newest children, and how many it has."""
    where = {"workspace": asked.workspace, "parent_id": run_id}
    links = await asked.desk.log.rows("children", where, limit=SHOWN_MAX)
    rows = await _runs(asked, [link["id"] for link in links])
    total = len(links) if len(links) < SHOWN_MAX else await asked.desk.log.count("children", where)
    return [_relative(link, link["id"], rows.get(link["id"])) for link in links], total


async def page(asked: Asking, paged: Paging, parent_id: str, where: Row) -> Response:
    """List the children of a run, the newest first."""
    found: list[dict[str, Any]] = []
    after, more = paged.cursor and cursors.by_id("children", paged.cursor), True
    while more and len(found) <= paged.limit:
        links = await asked.desk.log.rows(
            "children", {"workspace": asked.workspace, "parent_id": parent_id}, after=after, limit=PAGE_MAX
        )
        rows = await _runs(asked, [link["id"] for link in links], where)
        found += [rows[link["id"]] for link in links if link["id"] in rows]
        more = len(links) == PAGE_MAX
        after = links[-1]["id"] if links else after
    shown = [{**views.run(row), views.AFTER: row["id"]} for row in found[: paged.limit + 1]]
    return answer(views.page(shown, paged.limit))


async def with_statuses(asked: Asking, row: dict[str, Any]) -> dict[str, Any]:
    """Add to what a run waits for how the children stand that it waits for; those that wait themselves come first."""
    detail = row["detail"] or {}
    waiting = detail.get("waiting") or []
    named = [child for each in waiting if each["for"] == WaitingFor.CHILDREN for child in each.get("children", ())]
    if not named:
        return row
    rows: dict[str, dict[str, Any]] = {}
    for some in batched(named, PAGE_MAX):
        rows |= await _runs(asked, list(some))
    told = [_told(each, rows) if each["for"] == WaitingFor.CHILDREN else each for each in waiting]
    return {**row, "detail": {**detail, "waiting": told}}


def _told(each: dict[str, Any], rows: Mapping[str, Row]) -> dict[str, Any]:
    children = sorted(each.get("children", ()), key=lambda child: not (rows.get(child) or {}).get("waiting_for"))
    said = []
    for child in children:
        row = rows.get(child)
        why = f", waits for {row['waiting_for']}" if row and row["waiting_for"] else ""
        said.append(f"{child} ({row['status'] if row else 'not on record yet'}{why})")
    many, _, listed = each["message"].partition(": ")  # as the run says it: how many there are, and the first of them
    message = f"child run {said[0]}" if len(said) == 1 else f"{many}: {'; '.join(said)}"
    return {**each, "children": children, "message": message + ("; …" if listed.endswith("…") else "")}
