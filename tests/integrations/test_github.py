"""GitHub is a real HTTP server here: 250 issues on 3 pages, 30 of them pull requests, and a 403."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from headrace import codec
from headrace.clock import SystemClock
from headrace.config import Config
from headrace.messages import ReportAttempt
from headrace.worker.adapter import operations
from headrace.worker.twins import Bench
from headrace_integrations.github import GitHub
from headrace_integrations.secret_stores import EnvironmentStore, FileStore, SecretStores
from headrace_integrations.service import service
from headrace_integrations.upstream import Upstream
from tests.integrations.github_server import PULL_REQUESTS, SECRET, github
from tests.runner.http_server import Server, serving

REFERENCE = "env:GITHUB_TOKEN"
ARGUMENTS = {"owner": "octo", "repo": "demo", "state": "all"}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(github) as running:
        yield running


@pytest.fixture
def stores(tmp_path: Path) -> SecretStores:
    return SecretStores([EnvironmentStore({"GITHUB_TOKEN": SECRET}.get), FileStore(tmp_path / ".headrace")])


@pytest.fixture
def bench(tmp_path: Path, stores: SecretStores) -> Bench:
    return Bench(tmp_path, *operations(GitHub(Upstream(SystemClock()))), secrets=stores)


def connection(server: Server, reference: str = REFERENCE) -> codec.Raw:
    return codec.raw({"name": "github", "settings": {"base_url": server.url}, "secrets": {"token": reference}})


async def issues(bench: Bench, server: Server, **arguments: Any) -> ReportAttempt:
    return await bench.perform("github.issues", {**ARGUMENTS, **arguments}, connection=connection(server))


def details(report: ReportAttempt) -> dict[str, Any]:
    assert report.error is not None, report
    return report.error.details


async def test_all_pages_are_read_by_the_link_header_and_pull_requests_left_out(bench: Bench, server: Server) -> None:
    assert len(PULL_REQUESTS) == 30
    report = await issues(bench, server)
    assert report.status == "succeeded", report.error
    output = bench.output(report)
    assert len(output["rows"]) == 220
    assert not PULL_REQUESTS & {row["number"] for row in output["rows"]}
    assert (output["complete"], output["next_cursor"]) == (True, None)
    assert [parse_qs(urlsplit(seen.path).query).get("after") for seen in server.seen] == [
        None,
        ["opaque=="],
        ["opaque=="],
    ]
    assert report.evidence is not None
    assert (report.evidence.calls, report.evidence.complete) == (3, True)
    assert report.evidence.source == f"{server.url}/repos/octo/demo/issues"
    assert output["rows"][0] == {
        "number": 1,
        "title": "Issue 1",
        "state": "open",
        "user": "ada",
        "labels": ["bug"],
        "comments": 2,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-02T00:00:00Z",
        "closed_at": None,
        "url": "https://github.com/octo/demo/issues/1",
    }
    sent = server.seen[0].headers
    assert (sent["accept"], sent["x-github-api-version"]) == ("application/vnd.github+json", "2022-11-28")


async def test_a_capped_result_says_that_it_is_not_complete_and_can_be_gone_on_with(
    bench: Bench, server: Server
) -> None:
    first = bench.output(await issues(bench, server, pages_max=2))
    assert first["complete"] is False
    rest = bench.output(await issues(bench, server, cursor=first["next_cursor"]))
    assert rest["complete"] is True
    assert len(first["rows"]) + len(rest["rows"]) == 220


async def test_a_403_for_the_rate_limit_is_rate_limited_and_says_when_to_come_again(
    bench: Bench, server: Server
) -> None:
    report = await issues(bench, server, repo="limited")
    assert report.error is not None
    assert report.error.type == "rate_limited"
    assert details(report)["upstream"] == {
        "status": 403,
        "code": None,
        "message": "API rate limit exceeded",
        "request_id": "B:2",
    }
    assert report.retry_after_s is not None
    assert report.retry_after_s > 86_400
    assert report.retryable


async def test_a_403_for_something_else_keeps_the_providers_error(bench: Bench, server: Server) -> None:
    report = await issues(bench, server, repo="forbidden")
    assert report.error is not None
    assert report.error.type == "upstream_error"
    assert details(report)["upstream"] == {
        "status": 403,
        "code": "no",
        "message": "Resource not accessible",
        "request_id": "C:3",
    }


async def test_a_next_page_at_another_server_is_not_followed(bench: Bench, server: Server) -> None:
    report = await issues(bench, server, repo="astray")
    assert report.error is not None
    assert report.error.type == "upstream_error"
    assert "127.0.0.2" in report.error.message
    refused = await issues(bench, server, cursor="http://127.0.0.2:1/steal")
    assert refused.status == "failed"


async def test_a_bad_token_is_an_auth_error(bench: Bench, server: Server, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wrong\n")
    report = await bench.perform("github.issues", ARGUMENTS, connection=connection(server, f"file:{tmp_path}/token"))
    assert report.error is not None
    assert report.error.type == "integration_auth_error"
    assert details(report)["upstream"]["message"] == "Bad credentials"
    assert not report.retryable


async def test_secrets_stay_out_of_everything_that_leaves_the_service(bench: Bench, server: Server) -> None:
    for repo in ("demo", "limited", "forbidden", "astray"):
        report = await issues(bench, server, repo=repo)
        assert SECRET not in str(report)
    assert SECRET not in str(bench.lines.lines)
    assert all(SECRET.encode() not in body for body in bench.blobs.bodies.values())


async def test_a_secret_that_a_server_sends_back_is_redacted(bench: Bench) -> None:
    body = json.dumps({"message": f"who is {SECRET}?"}).encode()
    with serving(lambda _: (500, {}, body)) as echoing:
        report = await issues(bench, echoing)
    assert report.error is not None
    assert SECRET not in str(report)
    assert "[redacted]" in report.error.message


@pytest.mark.parametrize(
    "reference", ["env:MISSING", "env:HEADRACE_SECRET", "file:/nowhere/at/all", "vault:x", "no-scheme", "file:own"]
)
async def test_a_reference_that_cannot_be_resolved_is_an_auth_error_before_any_call(
    bench: Bench, server: Server, tmp_path: Path, reference: str
) -> None:
    (tmp_path / ".headrace").mkdir()
    (tmp_path / ".headrace" / "secret").write_text("master")
    given = f"file:{tmp_path}/.headrace/secret" if reference == "file:own" else reference
    report = await bench.perform("github.issues", ARGUMENTS, connection=connection(server, given))
    assert report.error is not None
    assert report.error.type == "integration_auth_error"
    assert "master" not in str(report)
    assert server.seen == []


async def test_a_secret_in_a_file_is_read_without_its_newline(bench: Bench, server: Server, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    report = await bench.perform("github.issues", ARGUMENTS, connection=connection(server, f"file:{tmp_path}/token"))
    assert report.status == "succeeded", report.error


async def test_wrong_settings_of_a_connection_are_refused_before_any_call(bench: Bench, server: Server) -> None:
    odd = codec.raw(
        {"name": "github", "settings": {"base_url": "gopher://x"}, "secrets": {"token": "env:GITHUB_TOKEN"}}
    )
    report = await bench.perform("github.issues", ARGUMENTS, connection=odd)
    assert report.error is not None
    assert report.error.type == "validation_error"


async def test_other_services_resolve_no_secrets(tmp_path: Path, server: Server) -> None:
    bench = Bench(tmp_path, *service.tools(Config()))
    report = await bench.perform("github.issues", ARGUMENTS, connection=connection(server))
    assert report.error is not None
    assert report.error.type == "forbidden"
    assert server.seen == []
