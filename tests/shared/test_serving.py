"""The shell around services: routes, readiness, signals, refusals."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2
import pytest

from headrace.bus.jetstream import JetStreamBus
from headrace.clock import SystemClock
from headrace.config import Config
from headrace.dev.embedded import EmbeddedNats, free_port
from headrace.errors import ConflictError, HeadraceError, UnavailableError, ValidationError
from headrace.health import Receive, Scope, Send
from headrace.logs import JsonLines
from headrace.serving import Running, serve
from tests.contracts.bus_worlds import DEADLINE_S, JetStreamWorld, until_async

SERVICE = """
import asyncio, sys
from headrace.config import from_env
from headrace.serving import serve

async def main(running):
    print("started", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.1)
        print("drained", flush=True)

asyncio.run(serve("tester", from_env(), main=main))
"""


@pytest.fixture
async def nats(nats_url: str) -> AsyncIterator[str]:
    """Give a NATS on which somebody knows the incarnation."""
    world = JetStreamWorld(nats_url)
    await world.client()
    yield nats_url
    await world.close()


async def get(port: int, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{port}{path}", timeout=DEADLINE_S)


async def serving(config: Config, check: Callable[[Running], object]) -> None:
    """Serve until `check` has looked at the running service."""

    async def main(running: Running) -> None:
        result = check(running)
        if asyncio.iscoroutine(result):
            await result

    async with asyncio.timeout(DEADLINE_S):
        await serve("tester", config, main=main)


async def test_every_process_tells_its_health_metrics_and_contract(nats: str) -> None:
    async def check(running: Running) -> None:
        alive = await get(running.port, "/healthz")
        assert (alive.status_code, alive.json()["service"]) == (200, "tester")
        ready = await get(running.port, "/readyz")
        assert ready.status_code == 200
        assert ready.json()["checks"]["bus"] == {"ready": True, "required": True}
        metrics = await get(running.port, "/metrics")
        assert "headrace_bus_connected 1.0" in metrics.text
        described = (await get(running.port, "/asyncapi")).json()
        assert described["asyncapi"] == "3.0.0"
        addresses = {channel["address"] for channel in described["channels"].values()}
        assert {"headrace.trigger.>", "headrace.feed.runs"} <= addresses
        assert (await get(running.port, "/nothing")).status_code == 404
        async with httpx2.AsyncClient(trust_env=False) as client:
            refused = await client.post(f"http://127.0.0.1:{running.port}/healthz", timeout=DEADLINE_S)
        assert refused.status_code == 405

    await serving(Config(nats_url=nats), check)


async def test_answers_say_when_they_were_given(nats: str) -> None:
    """The Date header is made when an answer wants it: nobody ticks for it while the process rests."""

    async def check(running: Running) -> None:
        async def dated() -> float:
            return parsedate_to_datetime((await get(running.port, "/healthz")).headers["date"]).timestamp()

        first = await dated()
        assert abs(first - running.clock.now_ms() / 1_000) < DEADLINE_S

        async def later() -> bool:
            return await dated() > first

        await until_async(later)

    await serving(Config(nats_url=nats), check)


async def test_a_check_that_fails_makes_the_process_unready_unless_it_is_not_required(nats: str) -> None:
    async def check(running: Running) -> None:
        running.health.add("wish", lambda: False, required=False)
        assert (await get(running.port, "/readyz")).status_code == 200
        running.health.add("partitions", lambda: False)
        answer = await get(running.port, "/readyz")
        assert answer.status_code == 503
        assert answer.json()["checks"]["partitions"] == {"ready": False, "required": True}

    await serving(Config(nats_url=nats), check)


async def test_the_api_serves_before_nats_answers_and_says_so(postgres_url: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the api"})

    async def check(running: Running) -> None:
        assert (await get(running.port, "/api/runs")).text == "the api"
        ready = await get(running.port, "/readyz")
        assert ready.status_code == 200
        assert ready.json()["checks"]["bus"] == {"ready": False, "required": False}
        with pytest.raises(UnavailableError):
            await running.bus.command("runs", 0, b"?", timeout_s=1)

    nowhere = f"nats://127.0.0.1:{free_port()}"
    config = Config(nats_url=nowhere, api_port=free_port(), database_url=postgres_url)
    async with asyncio.timeout(DEADLINE_S):
        await serve("api", config, main=check, asgi=app, database=True)


async def test_a_process_that_needs_a_database_names_the_variable(nats_url: str) -> None:
    async def main(_: Running) -> None:
        """Never begins."""

    with pytest.raises(ValidationError, match="HEADRACE_DATABASE_URL"):
        await serve("planner", Config(nats_url=nats_url), main=main, database=True)


async def test_a_taken_port_is_refused_with_its_number_and_the_variable(nats_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConflictError, match=rf"127\.0\.0\.1:{port} .*HEADRACE_HEALTH_PORT"):
            await serving(Config(nats_url=nats_url, health_port=port), lambda _: None)


async def test_without_a_nats_url_the_variable_is_named() -> None:
    with pytest.raises(ValidationError, match="HEADRACE_NATS_URL"):
        await serving(Config(), lambda _: None)


async def test_what_main_refuses_comes_out_as_it_is(nats: str) -> None:
    def refuse(_: Running) -> None:
        message = "the pool is unknown"
        raise ConflictError(message)

    with pytest.raises(HeadraceError, match="the pool is unknown"):
        await serving(Config(nats_url=nats), refuse)


async def test_sigterm_drains_and_ends_with_zero(nats: str) -> None:
    port = free_port()
    process = await _start(nats, port)
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        assert await process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGTERM)
        assert await process.stdout.readline() == b"drained\n"
        assert await process.wait() == 0


async def test_a_process_waits_for_nats_with_one_clear_line_and_begins_when_it_comes(
    nats_server: Callable[[], EmbeddedNats],
) -> None:
    server = await asyncio.to_thread(nats_server)
    await asyncio.to_thread(server.kill)
    port = free_port()
    process = await _start(server.url, port)
    assert process.stdout is not None
    assert process.stderr is not None

    async def answers() -> bool:
        try:
            return (await get(port, "/readyz")).status_code == 503
        except httpx2.TransportError:
            return False

    await until_async(answers, "alive, and not ready")
    await asyncio.to_thread(server.start)
    bus = await JetStreamBus.connect(server.url, "somebody who knows", SystemClock())
    async with asyncio.timeout(DEADLINE_S):
        assert await process.stdout.readline() == b"started\n"
        process.terminate()
        said = (await process.stderr.read()).decode()
        assert await process.wait() == 0
    await bus.close()
    assert said.count("does not answer") == 1
    assert "Traceback" not in said


async def _start(nats_url: str, port: int) -> asyncio.subprocess.Process:
    environment = {**os.environ, "HEADRACE_NATS_URL": nats_url, "HEADRACE_HEALTH_PORT": str(port)}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVICE,
        env=environment,
        cwd=Path.cwd(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def test_a_log_line_is_one_json_object() -> None:
    record = logging.LogRecord("headrace.x", logging.WARNING, "x.py", 1, "two\nlines of %s", ("text",), None)
    line = JsonLines("runner").format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "two\nlines of text"
    assert json.loads(line)["service"] == "runner"
