"""A GitHub dashboard through all real services: refused while not connected, then one result per view, no secret kept."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from headrace.errors import NotConnectedError
from tests.integrations.github_server import ISSUES, PULL_REQUESTS, SECRET, github
from tests.runner.http_server import Server, serving
from tests.system.kit import Command, Site, installation

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

VARIABLE = "TOKEN_OF_THE_STAND_IN"
REFERENCE = f"env:{VARIABLE}"
NUMBER = ISSUES - len(PULL_REQUESTS)
FORBIDDEN = "GitHub answered 403: Resource not accessible"
LOOSE = """
apiVersion: headrace/v1
kind: Dashboard
metadata: {name: loose}
spec:
  views:
    - {id: ours, type: table, source: {integration: github, operation: issues, with: {owner: octo, repo: demo}}}
    - id: theirs
      type: table
      source: {integration: github, operation: issues, connection: enterprise, with: {owner: octo, repo: demo}}
"""
ISSUES_BOARD = """
apiVersion: headrace/v1
kind: Dashboard
metadata: {name: issues}
spec:
  inputs: {repo: {type: string}}
  metrics:
    - id: number
      source: {integration: github, operation: issues, with: {owner: octo, repo: "{{ inputs.repo }}", state: all}}
      aggregate: count
  views:
    - {id: total, type: metric, metric: number}
    - id: newest
      type: table
      source: {integration: github, operation: issues, with: {owner: octo, repo: "{{ inputs.repo }}", state: all}}
      columns: [number, title]
      sort: -number
      limit: 3
    - id: hidden
      type: table
      source: {integration: github, operation: issues, with: {owner: octo, repo: forbidden}}
    - id: echo
      type: table
      source: {integration: github, operation: issues, with: {owner: octo, repo: echo}}
    - id: echoed
      type: table
      source: {integration: github, operation: issues, with: {owner: octo, repo: echoed}}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Give the stand-in for GitHub."""
    with serving(github) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Give an installation that may call loopback addresses and whose environment holds the token."""
    folder, root = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("root")
    env = {"HEADRACE_ALLOW_PRIVATE_ADDRESSES": "1", VARIABLE: SECRET, "HEADRACE_LOG_LEVEL": "debug"}
    async with installation(folder, root, **env) as given:
        yield given


async def cli(site: Site, folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command of the real CLI against the installation; gives its exit code and what it printed."""
    command = Command(folder, *arguments, HEADRACE_DATA_DIR=str(site.up.home))
    return await command.ended(60), command.said


async def test_unconnected_it_is_refused_by_one_error_that_names_every_integration_and_nothing_is_called(
    site: Site, server: Server, tmp_path: Path
) -> None:
    async with site.up.client() as client:
        with pytest.raises(NotConnectedError) as refused:
            await client.create_run(spec=LOOSE)
    assert refused.value.details["integrations"] == ["github", "github (enterprise)"]
    (tmp_path / "loose.yaml").write_text(LOOSE)
    code, said = await cli(site, tmp_path / "cli", "run", str(tmp_path / "loose.yaml"))
    assert code == 1
    assert said.startswith("error: integration_not_connected: not connected: github, github (enterprise)")
    assert "headrace connections set" in said
    assert len(said.splitlines()) == 1
    assert server.seen == []
    assert await site.rows("select id from headrace.runs") == []


async def test_connected_by_the_cli_each_view_has_its_own_result(site: Site, server: Server, tmp_path: Path) -> None:
    await connect(site, server, tmp_path / "set")
    document = tmp_path / "issues.yaml"
    document.write_text(ISSUES_BOARD)
    code, said = await cli(site, tmp_path / "run", "run", str(document), "--input", "repo=demo", "-o", "json")
    run = json.loads(said)
    assert (code, run["status"]) == (0, "succeeded")
    async with site.up.client() as client:
        result = await client.result(run["id"])
    assert_views(result["views"], server)
    assert run["outputs"] == result["views"]


async def test_applied_it_is_run_by_name_over_http_with_one_read_for_each_distinct_source(
    site: Site, server: Server, tmp_path: Path
) -> None:
    await connect(site, server, tmp_path / "set")
    before = len(server.seen)
    async with site.up.client() as client:
        await client.apply(ISSUES_BOARD)
    headers = {"authorization": f"Bearer {(site.up.home / 'token').read_text().strip()}"}
    async with httpx2.AsyncClient(base_url=site.up.url, headers=headers, timeout=60) as http:
        answer = await http.post("/api/dashboards/issues/run", json={"inputs": {"repo": "demo"}})
    assert answer.status_code == 200, answer.text
    assert_views(answer.json()["views"], server)
    assert sorted(seen.path.split("?")[0] for seen in server.seen[before:]) == [
        *["/repos/octo/demo/issues"] * 3,
        "/repos/octo/echo/issues",
        "/repos/octo/echoed/issues",
        "/repos/octo/forbidden/issues",
    ]


async def test_the_text_of_the_secret_is_nowhere(site: Site, server: Server, tmp_path: Path) -> None:
    await connect(site, server, tmp_path / "set")
    async with site.up.client() as client:
        run = await client.create_run(spec=ISSUES_BOARD, inputs={"repo": "demo"})
        told = [str(event) async for event in client.run_events(run.id)]
        lines = [str(event) async for event in client.run_lines(run.id)]
        whole = json.dumps([await client.result(run.id), await client.get(f"/runs/{run.id}"), told, lines])
    assert SECRET not in whole
    assert "[redacted]" in whole
    assert {"events", "connections"} <= set(await tables_with(site, REFERENCE)), "the search finds what is there"
    assert {"events", "blobs"} <= set(await tables_with(site, f"Issue {ISSUES}")), "rows of the source are kept"
    assert "runs" in await tables_with(site, "[redacted]")
    assert await tables_with(site, SECRET) == []
    site.nats.stop()
    try:
        holding = [path for path in files(site) if SECRET.encode() in path.read_bytes()]
    finally:
        site.nats.start()
    assert holding == []
    assert any(path.name == "integrations.log" for path in files(site))


async def connect(site: Site, server: Server, folder: Path) -> None:
    """Connect GitHub to the stand-in by the real CLI."""
    settings = ("--setting", f"base_url={server.url}", "--secret", f"token={REFERENCE}")
    code, said = await cli(site, folder, "connections", "set", "github", *settings)
    assert (code, said) == (0, "github: active\n")


def assert_views(views: dict[str, Any], server: Server) -> None:
    """See that each view has its own result: rows with their source and time, or the provider's own error."""
    assert views["total"]["value"] == NUMBER
    assert views["total"]["rows"] == [{"value": NUMBER}]
    newest = [number for number in range(ISSUES, 0, -1) if number not in PULL_REQUESTS][:3]
    assert views["newest"]["rows"] == [{"number": number, "title": f"Issue {number}"} for number in newest]
    for name in ("total", "newest"):
        view = views[name]
        assert (view["status"], view["error"], view["complete"]) == ("succeeded", None, True)
        assert view["source"] == f"{server.url}/repos/octo/demo/issues"
        assert datetime.fromisoformat(view["fetched_at"]).tzinfo is not None
    hidden = views["hidden"]
    assert (hidden["status"], hidden["rows"]) == ("failed", None)
    assert (hidden["error"]["type"], hidden["error"]["message"]) == ("upstream_error", FORBIDDEN)
    upstream = {"status": 403, "code": "no", "message": "Resource not accessible", "request_id": "C:3"}
    assert hidden["error"]["details"]["upstream"] == upstream
    assert views["echo"]["rows"][0]["title"] == "I am [redacted]"
    assert views["echoed"]["error"]["message"] == "GitHub answered 403: not for [redacted]"


async def tables_with(site: Site, text: str) -> list[str]:
    """Give the tables of the database in which a text stands, in plain or as bytes."""
    found = []
    tables = "select relid::regclass::text as name from pg_stat_user_tables where schemaname = 'headrace'"
    for row in await site.rows(tables):
        query = f"select 1 from {row['name']} t where strpos(t::text, $1) > 0 or strpos(t::text, $2) > 0 limit 1"  # noqa: S608  (its own name)
        if await site.rows(query, text, text.encode().hex()):
            found.append(row["name"])
    parents = "select inhparent::regclass::text as parent from pg_inherits where inhrelid = $1::text::regclass"
    return sorted({(await site.rows(parents, name) or [{"parent": name}])[0]["parent"] for name in found})


def files(site: Site) -> list[Path]:
    """Give every file of the installation but the database's own, which is looked into by queries."""
    folder = site.up.home.parent
    return [
        path
        for path in [*folder.rglob("*"), *site.root.rglob("*")]
        if path.is_file() and "postgres" not in path.relative_to(path.anchor).parts
    ]
