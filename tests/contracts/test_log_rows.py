"""Rows as readers list and find them: in order, page by page, by columns and by the texts of a document."""

import pytest

from headrace.clock import mint
from headrace.decider import Row
from headrace.errors import ValidationError
from headrace.log.port import After, Log
from tests.contracts.log_kit import CLOCK, batch, claim, event


@pytest.fixture
def log(any_log: Log) -> Log:
    return any_log


async def test_rows_are_listed_by_column_in_order_page_by_page(log: Log) -> None:
    tenure = (await claim(log))[0]
    *runs, last = sorted(mint(CLOCK, "run", 0) for _ in range(6))
    rows = [
        Row("runs", {"id": run, "workspace": "default", "status": status, "started_at": started})
        for run, status, started in zip(
            runs, ("queued", "failed", "queued", "running", "queued"), (5, None, 5, 1, None), strict=True
        )
    ]
    await log.append_events([batch(tenure, *(event(run, 1) for run in runs), rows=rows)])

    async def listed(**options: object) -> list[str]:
        where = {"workspace": "default", **options.pop("where", {})}  # type: ignore[dict-item]  # a test's shorthand
        return [row["id"] for row in await log.rows("runs", where, **options)]  # type: ignore[arg-type]  # likewise

    assert await listed() == runs[::-1]
    assert await listed(descending=False, limit=2) == runs[:2]
    assert await listed(descending=False, limit=2, after=runs[1]) == runs[2:4]
    assert await listed(after=runs[2]) == [runs[1], runs[0]]
    assert await listed(where={"status": ["failed", "running"]}) == [runs[3], runs[1]]
    assert await listed(where={"started_at": None}) == [runs[4], runs[1]]
    by_start = [runs[1], runs[4], runs[3], runs[0], runs[2]]
    assert await listed(order="started_at", descending=False) == by_start
    assert await listed(order="started_at", descending=False, after=After(runs[4], None)) == by_start[2:]
    assert await listed(order="started_at", after=After(runs[0], 5)) == [runs[3], runs[4], runs[1]]
    gone_or_moved = After(runs[0], 3)
    assert await listed(order="started_at", after=gone_or_moved) == [runs[3], runs[4], runs[1]]
    assert await listed(order="started_at", descending=False, after=gone_or_moved) == [runs[0], runs[2]]
    assert await listed(order="status", descending=False, after=After(runs[0], "queue"), limit=3) == [
        *(runs[0], runs[2], runs[4])
    ]
    assert await listed(order="id", after=After(runs[2], None)) == [runs[1], runs[0]]
    assert await listed(after=last) == runs[::-1], "a place in the order of ids needs no row"
    assert await listed(descending=False, after=last) == []
    assert await log.count("runs", {"workspace": "default"}) == 5
    assert await log.count("runs", {"workspace": "default", "status": ["queued", "running"]}) == 4
    assert await log.count("runs", {"workspace": "nobody's"}) == 0
    wrongs: list[dict[str, object]] = [
        {"where": {"colour": 1}},
        {"order": "colour"},
        {"where": {"labels": {}}},
        {"order": "started_at", "after": runs[0]},
        {"order": "started_at", "after": After(runs[0], "soon")},
        {"order": "started_at", "after": After(runs[0], 2**63)},
    ]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            await listed(**wrong)
    with pytest.raises(ValidationError):
        await log.rows("nowhere", {})
    with pytest.raises(ValidationError):
        await log.count("runs", {"colour": 1})


async def test_rows_are_found_by_the_texts_that_a_document_has(log: Log) -> None:
    tenure = (await claim(log))[0]
    runs = sorted(mint(CLOCK, "run", 0) for _ in range(7))
    kept: list[dict[str, str] | None] = [
        {"team": "infra", "env": "prod"},
        {"env": "prod", "team": "infra"},
        {"team": "infra2", "note": 'x","team":"infra"'},
        {'a"team': "infra", "": "\x00"},
        {"größe": "a\\b", "quote": '"', "odd": "\x00"},
        None,
        {",odd": "x", ":odd": ",", "}": "y"},
    ]
    rows = [
        Row("runs", {"id": run, "workspace": "default", "labels": has}) for run, has in zip(runs, kept, strict=True)
    ]
    await log.append_events([batch(tenure, *(event(run, 1) for run in runs), rows=rows)])

    async def having(**wanted: str) -> list[int]:
        where = {"workspace": "default", "labels": wanted}
        found = [runs.index(row["id"]) for row in await log.rows("runs", where, descending=False)]
        assert await log.count("runs", where) == len(found)
        return found

    assert await having(team="infra") == [0, 1]
    assert await having(team="infra", env="prod") == [0, 1]
    assert await having(team="infra2") == [2]
    assert await having(team="inf") == await having(eam="infra") == await having(team="infra", env="dev") == []
    assert await having(**{"": "\x00"}) == await having(**{'a"team': "infra"}) == [3]
    assert await having(größe="a\\b", quote='"', odd="\x00") == [4]
    assert await having(**{",odd": "x", ":odd": ","}) == await having(**{"}": "y"}) == [6]
    assert await having(odd="x") == await having(**{"}": "x"}) == []
    for wrong in (",", ":"):
        with pytest.raises(ValidationError, match="rows cannot be found by the name"):
            await having(**{wrong: "x"})
