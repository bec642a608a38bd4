"""The http tools against a real server, and the private-address guard."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace import codec
from headrace.events.base import ErrorInfo
from headrace.messages import ReportAttempt
from headrace.worker.twins import Bench
from headrace_runner.tools.addresses import AddressGuard, is_public
from headrace_runner.tools.http import Http, HttpWrite
from tests.runner.http_server import Answer, Seen, serving


def bench_with(root: Path, guard: AddressGuard) -> Bench:
    return Bench(root, Http(guard), HttpWrite(guard))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return bench_with(tmp_path, AddressGuard(exempt=frozenset({"127.0.0.1"})))


def error(report: ReportAttempt) -> ErrorInfo:
    assert report.error is not None, report
    return report.error


def echo(_: Seen) -> Answer:
    return 200, {"content-type": "application/json"}, b'{"ok": true}'


async def test_url_header_and_body_hold_the_resolved_values__row_49(bench: Bench) -> None:
    with serving(echo) as server:
        report = await bench.perform(
            "http_write",
            {
                "url": f"{server.url}/items/forty-two",
                "headers": {"x-value": "forty-two"},
                "query": {"q": "a b"},
                "body": {"value": "forty-two"},
            },
        )
    assert report.status == "succeeded", report.error
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/items/forty-two?q=a+b")
    assert seen.headers["x-value"] == "forty-two"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["idempotency-key"] == "key"
    assert seen.headers["host"] == f"127.0.0.1:{server.port}"
    assert json.loads(seen.body) == {"value": "forty-two"}


async def test_a_json_answer_comes_as_data_with_its_source(bench: Bench) -> None:
    with serving(echo) as server:
        report = await bench.perform("http", {"url": server.url + "/x?token=hidden"})
    output = bench.output(report)
    assert (output["status"], output["body"], output["encoding"]) == (200, {"ok": True}, "json")
    assert report.evidence is not None
    assert report.evidence.source == f"{server.url}/x"


@pytest.mark.parametrize(
    ("media_type", "body", "encoding", "expected"),
    [
        ("text/plain", b"hi", "text", "hi"),
        ("image/png", b"\x89PNG", "base64", "iVBORw=="),
        ("text/plain; charset=latin-1", b"\xfc", "text", "ü"),
    ],
)
async def test_other_answers_come_as_text_or_base64(
    bench: Bench, media_type: str, body: bytes, encoding: str, expected: str
) -> None:
    with serving(lambda _: (200, {"content-type": media_type}, body)) as server:
        output = bench.output(await bench.perform("http", {"url": server.url}))
    assert (output["encoding"], output["body"]) == (encoding, expected)


async def test_a_json_answer_that_is_no_json_is_an_error(bench: Bench) -> None:
    with serving(lambda _: (200, {"content-type": "application/json"}, b"<html>")) as server:
        assert error(await bench.perform("http", {"url": server.url})).type == "upstream_error"


async def test_an_answer_of_400_or_more_is_an_error_with_its_status_and_body(bench: Bench) -> None:
    with serving(lambda _: (503, {"retry-after": "7"}, b"busy")) as server:
        report = await bench.perform("http", {"url": server.url})
    assert error(report).type == "upstream_error"
    assert error(report).details["upstream"] == {"status": 503, "message": "busy"}
    assert report.retry_after_s == 7.0
    assert report.retryable


async def test_a_source_that_asks_for_fewer_requests_is_told_apart(bench: Bench) -> None:
    with serving(lambda _: (429, {"retry-after": "3"}, b"slow down")) as server:
        report = await bench.perform("http", {"url": server.url})
    assert (error(report).type, report.retry_after_s, report.retryable) == ("rate_limited", 3.0, True)


async def test_http_only_reads(bench: Bench) -> None:
    report = await bench.perform("http", {"url": "http://127.0.0.1/", "method": "POST"})
    assert error(report).type == "validation_error"


PRIVATE = [
    "http://127.0.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::1]/",
    "http://localhost/",
    "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.1/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://0.0.0.0/",
    "http://224.0.0.1/",
    "http://127.0.0.1./",
]


@pytest.mark.parametrize("url", PRIVATE)
async def test_a_private_address_is_not_requested(tmp_path: Path, url: str) -> None:
    report = await bench_with(tmp_path, AddressGuard()).perform("http", {"url": url})
    assert error(report).type == "validation_error", report.error
    assert "private address" in error(report).message
    assert not report.retryable


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "file:///etc/passwd", "http://u:p@example.com/", "http://example.com:22/"]
)
async def test_other_schemes_ports_and_credentials_are_refused(tmp_path: Path, url: str) -> None:
    report = await bench_with(tmp_path, AddressGuard(allow_private=True)).perform("http", {"url": url})
    assert error(report).type == "validation_error"


class Names:
    """A resolver that answers by a table, another answer each time."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(self, host: str, port: int) -> list[str]:
        return self.answers.pop(0)


async def test_a_name_with_one_private_address_among_public_ones_is_refused(tmp_path: Path) -> None:
    guard = AddressGuard(resolver=Names(["93.184.215.14", "10.0.0.1"]))
    report = await bench_with(tmp_path, guard).perform("http", {"url": "http://example.com/"})
    assert "private address 10.0.0.1" in error(report).message


async def test_a_name_is_resolved_once_and_the_checked_address_is_the_one_connected_to(tmp_path: Path) -> None:
    names = Names(["127.0.0.1"])
    guard = AddressGuard(exempt=frozenset({"127.0.0.1"}), resolver=names)
    with serving(echo) as server:
        report = await bench_with(tmp_path, guard).perform("http", {"url": f"http://name.invalid:{server.port}/"})
    assert report.status == "succeeded", report.error
    assert names.answers == []
    assert server.seen[0].headers["host"] == f"name.invalid:{server.port}"


async def test_a_redirect_to_a_private_address_is_not_followed(bench: Bench) -> None:
    with serving(lambda _: (302, {"location": "http://127.0.0.2:1/"}, b"")) as server:
        report = await bench.perform("http", {"url": server.url, "follow_redirects": True})
    assert "private address 127.0.0.2" in error(report).message


async def test_redirects_are_the_answer_unless_they_are_asked_for(bench: Bench) -> None:
    with serving(lambda _: (302, {"location": "/there"}, b"")) as server:
        output = bench.output(await bench.perform("http", {"url": server.url}))
    assert (output["status"], output["headers"]["location"]) == (302, "/there")
    assert len(server.seen) == 1


async def test_a_followed_redirect_to_another_origin_carries_no_credentials(bench: Bench) -> None:
    with serving(echo) as target:

        def away(_: Seen) -> Answer:
            return 302, {"location": f"{target.url}/there"}, b""

        with serving(away) as server:
            arguments: dict[str, Any] = {
                "url": server.url,
                "headers": {"Authorization": "Bearer x"},
                "follow_redirects": True,
            }
            report = await bench.perform("http", arguments)
    assert report.status == "succeeded", report.error
    assert server.seen[0].headers["authorization"] == "Bearer x"
    assert "authorization" not in target.seen[0].headers


async def test_redirects_in_a_circle_end(bench: Bench) -> None:
    with serving(lambda _: (302, {"location": "/"}, b"")) as server:
        report = await bench.perform("http", {"url": server.url, "follow_redirects": True})
    assert "redirects" in error(report).message


async def test_a_large_answer_travels_as_a_blob_with_a_preview__row_51(bench: Bench) -> None:
    body = b"x" * (5 * 1024 * 1024)
    with serving(lambda _: (200, {"content-type": "text/plain"}, body)) as server:
        report = await bench.perform("http", {"url": server.url})
    assert report.status == "succeeded", report.error
    assert report.output == codec.NULL
    assert report.blob is not None
    assert report.blob.size_bytes > len(body)
    assert 0 < len(report.blob.preview) <= 1_000
    assert codec.sha256(bench.blobs.bodies[report.blob.digest]) == report.blob.digest
    assert bench.output(report)["body"] == body.decode()


async def test_nobody_there_is_an_upstream_error(bench: Bench) -> None:
    with serving(echo) as server:
        url = server.url
    assert error(await bench.perform("http", {"url": url})).type == "upstream_error"


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)
