"""ToolRunner: what must hold before a tool is called, and what comes back whatever the tool does."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, Field

from headrace import codec
from headrace.clock import SystemClock
from headrace.config import Config
from headrace.errors import NotFoundError, StepError, UnauthorizedError, UnavailableError, ValidationError
from headrace.events.base import ErrorInfo
from headrace.messages import ReportAttempt
from headrace.ports.tool import ToolContext
from headrace.worker.adapter import OpenObject
from headrace.worker.blobs import HttpBlobs
from headrace.worker.credit import Credit
from headrace.worker.decorator import tool
from headrace.worker.files import load_tools
from headrace.worker.registry import Registry
from headrace.worker.twins import Bench
from tests.runner.http_server import Answer, Seen, serving

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_tool.py"


class TextInput(BaseModel):
    text: str = Field(min_length=1)


class Gives:
    """A tool that gives whatever it was made with."""

    name, version, description = "gives", "1", "Gives."
    input: type[BaseModel] = OpenObject
    output: type[BaseModel] = OpenObject
    effect, access, idempotent, pool = "read", "auto", True, "runner"

    def __init__(self, given: Any = None, **fields: Any) -> None:
        self.given = given
        self.calls = 0
        for name, value in fields.items():
            setattr(self, name, value)

    async def perform(self, context: ToolContext, input: BaseModel) -> Any:
        self.calls += 1
        if isinstance(self.given, BaseException):
            raise self.given
        return self.given(context) if callable(self.given) else self.given


def error(report: ReportAttempt) -> ErrorInfo:
    assert report.error is not None, report
    return report.error


@pytest.mark.parametrize("given", [None, [1], 7, "text", True])
async def test_a_tool_that_gives_no_object_is_a_validation_error__row_89(tmp_path: Path, given: Any) -> None:
    report = await Bench(tmp_path, Gives(given)).perform("gives")
    assert (report.status, error(report).type) == ("failed", "validation_error")


async def test_an_empty_object_is_accepted__row_89(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Gives({}))
    assert bench.output(await bench.perform("gives")) == {}


@pytest.mark.parametrize("arguments", [{}, {"text": ""}, {"text": None}, {"text": 5}, [], "x"])
async def test_missing_or_empty_input_is_a_validation_error_before_the_call__row_89(
    tmp_path: Path, arguments: Any
) -> None:
    gives = Gives({}, input=TextInput)
    report = await Bench(tmp_path, gives).perform("gives", arguments)
    assert error(report).type == "validation_error"
    assert not report.retryable
    assert gives.calls == 0


async def test_a_number_beyond_a_double_is_not_lost(tmp_path: Path) -> None:
    report = await Bench(tmp_path, Gives({"x": float("inf")})).perform("gives")
    assert bytes(report.output) == b'{"x":1e999999}'


@pytest.mark.parametrize("given", [{"x": float("nan")}, {"x": object()}])
async def test_a_result_that_json_cannot_say_is_refused(tmp_path: Path, given: Any) -> None:
    assert error(await Bench(tmp_path, Gives(given)).perform("gives")).type == "validation_error"


async def test_a_tool_that_raises_gives_an_envelope_without_a_traceback__row_90(tmp_path: Path) -> None:
    gives = Gives(RuntimeError("broken pipe dream"))
    bench = Bench(tmp_path, gives)
    report = await bench.perform("gives")
    assert (error(report).type, error(report).plugin) == ("tool_error", "gives")
    assert error(report).message == "RuntimeError: broken pipe dream"
    assert report.finished_at is not None
    assert "Traceback" not in str(report)
    assert __file__ not in str(report)
    shown = bench.registry.show()[0]
    assert (shown["error_count"], shown["success_count"], shown["state"]) == (1, 0, "failed")
    assert shown["last_execution_time_ms"] is not None
    assert shown["last_used"] is not None
    gives.given = {}
    await bench.perform("gives")
    shown = bench.registry.show()[0]
    assert (shown["error_count"], shown["success_count"], shown["state"], shown["reason"]) == (1, 1, "initialized", "")


async def test_the_workers_log_says_where_a_tool_raised_what_it_did_not_mean_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await Bench(tmp_path, Gives(RuntimeError("broken pipe dream"))).perform("gives")
    assert f"RuntimeError: broken pipe dream (at {__file__}:" in caplog.text
    assert "in perform; HEADRACE_LOG_LEVEL=debug shows the traceback)" in caplog.text
    caplog.clear()
    await Bench(tmp_path, Gives(StepError("no such bridge", type="upstream_error"))).perform("gives")
    assert "upstream_error: no such bridge" in caplog.text
    assert __file__ not in caplog.text


def test_the_average_is_over_the_last_ten_calls__row_90() -> None:
    record = Registry([Gives({})]).get("gives")
    assert record.state == "loaded"
    for duration in [1_000.0, *range(1, 11)]:
        record.started(1)
        assert record.state == "running"
        record.ended(duration, error=None)
    assert record.show()["avg_execution_time_ms"] == 5.5
    assert record.show()["last_execution_time_ms"] == 10


class Nasty(Exception):  # noqa: N818  (a plug-in names its errors as it likes)
    """Fails even at saying what it is."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "problem", [Nasty(), SystemExit(3), TimeoutError("theirs"), StopIteration("x"), ExceptionGroup("g", [OSError()])]
)
async def test_whatever_a_tool_raises_becomes_an_envelope(tmp_path: Path, problem: BaseException) -> None:
    assert (await Bench(tmp_path, Gives(problem)).perform("gives")).status == "failed"


async def test_a_step_error_keeps_its_type_details_and_wait(tmp_path: Path) -> None:
    problem = StepError("slow down", type="rate_limited", details={"retry_after_s": 12})
    report = await Bench(tmp_path, Gives(problem)).perform("gives")
    assert (error(report).type, report.retry_after_s, report.retryable) == ("rate_limited", 12.0, True)


@tool
async def slow() -> dict[str, int]:
    """Take too long."""
    await asyncio.Event().wait()
    return {}


async def test_an_attempt_over_its_time_is_timed_out_and_names_the_step__row_59(tmp_path: Path) -> None:
    bench = Bench(tmp_path, slow)
    report = await bench.perform("slow", timeout_s=0.02, step="gather")
    assert (report.status, error(report).type) == ("timed_out", "timeout")
    assert "'gather'" in error(report).message
    item = await bench.perform("slow", timeout_s=0.02, step="gather", index=3)
    assert "step 'gather[3]' was over its time" in error(item).message
    assert bench.registry.show()[0]["state"] == "failed"


async def test_a_forbidden_tool_is_never_called(tmp_path: Path) -> None:
    gives = Gives({}, access="forbidden")
    assert error(await Bench(tmp_path, gives).perform("gives")).type == "forbidden"
    assert gives.calls == 0


async def test_a_tool_that_is_not_the_pinned_one_is_not_called_and_may_be_tried_elsewhere(tmp_path: Path) -> None:
    gives = Gives({})
    report = await Bench(tmp_path, gives).perform("gives", manifest_digest=codec.sha256(b"other"))
    assert (error(report).type, report.retryable, gives.calls) == ("unavailable", True, 0)


async def test_an_order_that_calls_a_write_a_read_is_refused(tmp_path: Path) -> None:
    gives = Gives({}, effect="write", access="gated")
    bench = Bench(tmp_path, gives)
    assert error(await bench.perform("gives", effect="read")).type == "forbidden"
    assert (gives.calls, bench.claimer.claimed) == (0, [])


async def test_arguments_that_do_not_have_the_orders_digest_are_refused(tmp_path: Path) -> None:
    gives = Gives({})
    bench = Bench(tmp_path, gives)
    assert error(await bench.perform("gives", {"a": 1}, arguments_digest=codec.sha256(b"{}"))).type == "unauthorized"
    assert gives.calls == 0


async def test_an_unknown_tool_is_named_with_those_there_are(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Gives({}))
    order = msgspec.structs.replace(bench.order("gives"), tool="rm -rf /")
    report = await bench.runner.run(bench.runner.begin(order))
    assert error(report).type == "tool_not_found"
    assert "gives" in error(report).message


async def test_a_grant_that_ran_out_is_not_acted_upon(tmp_path: Path) -> None:
    gives = Gives({}, effect="write", access="gated")
    report = await Bench(tmp_path, gives, grant_s=-1.0).perform("gives")
    assert error(report).type == "conflict"
    assert (gives.calls, report.retryable) == (0, True)


async def test_of_a_write_whose_result_is_of_no_use_it_is_said_that_it_acted(tmp_path: Path) -> None:
    acted = await Bench(tmp_path, Gives([1], effect="write", access="gated")).perform("gives")
    assert (error(acted).type, error(acted).details["outcome"]) == ("validation_error", "happened")
    refused = Gives(StepError("no", type="upstream_error"), effect="write", access="gated")
    assert "outcome" not in error(await Bench(tmp_path, refused).perform("gives")).details
    read = await Bench(tmp_path, Gives([1])).perform("gives")
    assert "outcome" not in error(read).details


async def test_large_arguments_and_outputs_travel_as_blobs__row_51(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Gives({"text": "y" * (5 * 1024 * 1024)}, input=TextInput))
    body = codec.dumps({"text": "x" * 200_000})
    digest = await bench.blobs.put(body, "")
    report = await bench.runner.run(
        bench.runner.begin(bench.order("gives", arguments_blob=digest, arguments_digest=digest))
    )
    assert report.status == "succeeded", report.error
    assert report.blob is not None
    assert report.output == codec.NULL
    assert report.blob.size_bytes > 5 * 1024 * 1024
    assert report.blob.preview.startswith('{"text":"yyy')


async def test_artifacts_are_kept_inline_while_small_and_as_blobs_when_large_or_binary(tmp_path: Path) -> None:
    def keep(context: ToolContext) -> dict[str, Any]:
        context.artifact("metric", "score", 7)
        context.artifact("stdout", "log", None, body="smäll".encode())
        context.artifact("file", "big", "big.txt", body=b"x" * 40_000)
        context.artifact("file", "binary", "b", body=b"\xff\x00", media_type="image/png")
        return {}

    bench = Bench(tmp_path, Gives(keep))
    score, small, big, binary = (await bench.perform("gives")).artifacts
    assert (codec.loads(score.value), score.blob) == (7, None)
    assert (codec.loads(small.body), small.blob) == ("smäll", None)
    assert big.blob is not None
    assert bench.blobs.bodies[big.blob.digest] == b"x" * 40_000
    assert binary.blob is not None
    assert (binary.blob.media_type, binary.blob.preview) == ("image/png", "")


async def test_evidence_of_a_gate_is_fetched_before_it_judges(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Gives(lambda context: {"seen": context.evidence["artifacts"][0]["text"]}))
    digest = await bench.blobs.put(b"# Report", "")
    evidence = {"artifacts": [{"type": "file", "label": "r", "blob": {"digest": digest, "size_bytes": 8}}], "steps": {}}
    assert bench.output(await bench.perform("gives", evidence=codec.raw(evidence))) == {"seen": "# Report"}


async def test_headrace_tool_makes_models_from_annotations(tmp_path: Path) -> None:
    @tool
    def repeat(word: str, times: int = 2) -> list[str]:
        """Repeat a word."""
        return [word] * times

    bench = Bench(tmp_path, repeat)
    assert bench.output(await bench.perform("repeat", {"word": "a"})) == {"result": ["a", "a"]}
    assert error(await bench.perform("repeat", {"word": "a", "more": 1})).type == "validation_error"
    assert repeat("b", times=1) == ["b"]
    assert (repeat.effect, repeat.access, repeat.description) == ("read", "auto", "Repeat a word.")


def test_a_function_without_annotations_is_no_tool() -> None:
    with pytest.raises(ValidationError, match="no type annotation"):

        @tool
        def untyped(word) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001  (that is the point)
            return str(word)

    with pytest.raises(ValidationError, match="annotate its return type"):

        @tool
        def silent(word: str) -> None:
            """Give nothing."""


def test_import_headrace_is_light_and_still_offers_tool() -> None:
    code = "import sys, headrace; assert 'pydantic' not in sys.modules; headrace.tool; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_the_example_file_gives_its_tools_in_a_pool_of_its_own() -> None:
    tools = load_tools(EXAMPLE)
    assert [each.name for each in tools] == ["remember", "word_count"]
    assert {each.pool for each in tools} == {"my_tool"}


@pytest.mark.parametrize(("body", "says"), [("1 / 0", "ZeroDivisionError"), ("x = 1", "makes no tool")])
def test_a_file_without_tools_or_that_fails_is_refused(tmp_path: Path, body: str, says: str) -> None:
    (tmp_path / "broken_tools.py").write_text(body)
    with pytest.raises(ValidationError, match=says):
        load_tools(tmp_path / "broken_tools.py")
    with pytest.raises(ValidationError, match="there is no file"):
        load_tools(tmp_path / "none.py")


async def test_a_plugin_that_does_not_load_is_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    class NoName:
        def run(self, payload: dict[str, Any]) -> dict[str, Any]:
            return payload

    class Bomb:
        def __init__(self) -> None:
            raise RuntimeError

    bench = Bench(tmp_path, NoName(), Bomb, Gives({}), Gives({}))
    assert (await bench.perform("gives")).status == "succeeded"
    shown = {each["name"]: each["state"] for each in bench.registry.show()}
    assert shown == {"gives": "initialized", "NoName": "unavailable", "Bomb": "unavailable"}


def test_credit_grows_with_quick_tools_and_shrinks_with_slow_ones() -> None:
    credit = Credit(2)
    assert credit.wanted() == 2
    for _ in range(200):
        credit.arrived()
        credit.settled(0.000_1)
        credit.wanted()
    assert credit.target > 100
    for _ in range(40):
        credit.arrived()
        credit.settled(1.0)
        credit.wanted()
    assert credit.target == 2


async def test_blobs_travel_over_http_with_the_attempts_token() -> None:
    kept: dict[str, bytes] = {}
    failures = [503]

    def api(seen: Seen) -> Answer:
        if seen.headers.get("authorization") != "Bearer tok":
            return 401, {}, b""
        if failures:
            return failures.pop(), {}, b""
        digest = seen.path.removeprefix("/api/blobs/")
        if seen.method == "PUT":
            kept[digest] = seen.body
            return 201, {}, b""
        return (200, {}, kept[digest]) if digest in kept else (404, {}, b"")

    with serving(api) as server:
        async with HttpBlobs(server.url, SystemClock()) as blobs:
            digest = await blobs.put(b"body", "tok")
            assert kept == {codec.sha256(b"body"): b"body"}
            assert await blobs.get(digest, "tok") == b"body"
            with pytest.raises(NotFoundError):
                await blobs.get(codec.sha256(b"none"), "tok")
            with pytest.raises(UnauthorizedError):
                await blobs.put(b"body", "other")
            kept[digest] = b"altered"
            with pytest.raises(UnavailableError):
                await blobs.get(digest, "tok")


def test_the_services_offer_what_their_pools_need() -> None:
    from headrace_integrations.service import service as integrations
    from headrace_runner.service import service as runner

    assert Registry(runner.tools(Config())).pools() == ("runner",)
    assert {record.manifest.name for record in Registry(runner.tools(Config())).records()} == {
        "file_create",
        "file_glob",
        "file_read",
        "file_search",
        "file_write",
        "http",
        "http_write",
        "symbols_in_file",
    }
    assert Registry(integrations.tools(Config())).get("github.issues").manifest.requires_connection == "github"
