"""A whole engine around the api under test: real rooms, real owner host, real HTTP, a worker that does as it is told."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import msgspec
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from headrace import codec, ids
from headrace.bus.memory import MemoryBus
from headrace.bus.port import Delivery
from headrace.client.client import Client
from headrace.client.tokens import mint
from headrace.clock import SystemClock
from headrace.errors import ConflictError, UnavailableError
from headrace.events.base import Actor, ArtifactInfo, BlobRef, ErrorInfo, RateLimit
from headrace.events.catalogue import ToolManifest
from headrace.host.library import CachedLibrary
from headrace.host.owner import OwnerHost
from headrace.host.presence import Presence
from headrace.keys import COMMANDS, POOL, Keys, secret_hash
from headrace.log.port import Log
from headrace.log.postgres import PostgresLog
from headrace.messages import AnnounceTool, Answer, Command, CreateToken, ReportAttempt, RevokeToken, Told
from headrace.vocabulary import LOG_CATALOGUE, LOG_RUNS, UNFINISHED_RUNS_MAX
from headrace.wire import Beat, Line, WorkOrder
from headrace_api.app import make_routes
from headrace_api.commands import Commander
from headrace_api.desk import Desk
from headrace_api.direct import Direct
from headrace_api.front import Front
from headrace_api.guarding import check
from headrace_gatekeeper.approvals.room import ApprovalRoom
from headrace_planner.catalogue.admission import Admission
from headrace_planner.catalogue.admit import RunPreparer
from headrace_planner.catalogue.prepare import CataloguePreparer
from headrace_planner.catalogue.room import CatalogueRoom
from headrace_planner.compile.compiler import compile as compile_document
from headrace_planner.flow.room import FlowRoom
from headrace_planner.runs.room import RunRoom

WORKSPACE = "default"
RUNNER = "runner"
TRIES = 600
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Connections here are plain: loading the certificates of the world for each would take longer than many a test."""
ANY = {"type": "object", "additionalProperties": True}
BIG = "x" * (5 * 1024 * 1024)
SECRET = b'{"text": "of another workspace"}'
TOOLS = ("echo", "big", "broken", "hold", "chatty", "filed", "stolen")


def workflow(name: str, steps: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "headrace/v1",
        "kind": "Workflow",
        "metadata": {"name": name},
        "spec": {"steps": steps, **more},
    }


def step(tool: str, id: str = "one", **arguments: Any) -> dict[str, Any]:
    return {"id": id, "tool": tool, "with": arguments}


SIGN_OFF = {"id": "sign_off", "approval": {"roles": ["approver"], "quorum": 1, "prompt": "Go on?"}}


async def until(ready: Callable[[], Any]) -> Any:
    """Wait for a condition with a deadline; it may be a coroutine function."""
    for _ in range(TRIES):
        found = ready()
        found = await found if asyncio.iscoroutine(found) else found
        if found:
            return found
        await asyncio.sleep(0.02)
    message = "it did not come to be"
    raise AssertionError(message)


class World:
    """What a test works with."""

    def __init__(
        self,
        log: Log,
        clock: SystemClock,
        deadline_s: float = 10.0,
        unfinished_runs_max: int = UNFINISHED_RUNS_MAX,
        *,
        beating: bool = True,
    ) -> None:
        self.log, self.clock = log, clock
        self.admission = Admission(log, clock, unfinished_runs_max)
        self.keys = Keys(master=b"k" * 32)
        self.bus = MemoryBus(clock)
        self.api_bus = MemoryBus(clock, self.bus.broker)
        self.desk = Desk(
            log,
            self.api_bus,
            self.keys,
            clock,
            commander=Commander(self.api_bus, self.keys, clock, deadline_s=deadline_s),
            gone=log.gone if isinstance(log, PostgresLog) else None,
        )
        self.url = ""
        self.tokens: dict[str, str] = {}
        self.orders: asyncio.Queue[Delivery] = asyncio.Queue()
        self.go = asyncio.Event()
        self.performed: list[str] = []
        self.ordered: list[WorkOrder] = []
        self.beating = beating

    def http(self, role: str | None = "admin") -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        return httpx2.AsyncClient(base_url=f"{self.url}/api", headers=headers, timeout=20.0, verify=PLAIN)

    def client(self, role: str = "admin") -> Client:
        return Client(self.url, self.tokens[role], patience_s=5.0)

    def host(self) -> OwnerHost:
        library, presence = CachedLibrary(), Presence(self.clock)
        rooms = [RunRoom(library), FlowRoom(), CatalogueRoom(library), ApprovalRoom()]
        preparers = {
            LOG_RUNS: RunPreparer(self.log, presence, self.admission),
            LOG_CATALOGUE: CataloguePreparer(self.log, self.clock, compile_document),
        }
        return OwnerHost(
            self.log,
            self.bus,
            clock=self.clock,
            keys=self.keys,
            rooms=rooms,
            owner_id="owner-1",
            preparers=preparers,
            library=library,
            presence=presence,
        )

    async def mint(self, role: str, workspace: str = WORKSPACE, name: str | None = None) -> str:
        """Make a token as `headrace up` makes the first one."""
        made = mint(self.clock.entropy() * 3)
        body = CreateToken(token_id=made.id, name=name or role, roles=(role,), secret_hash=secret_hash(made.secret))
        up = Actor(id="up", name="up", roles=("admin",))
        await self._command(Command(body=codec.raw(body), actor=up, workspace=workspace, stream_id=made.id))
        return made.text

    async def revoke(self, token_id: str) -> None:
        """Revoke a token past the api."""
        up = Actor(id="up", name="up", roles=("admin",))
        await self._command(Command(body=codec.raw(RevokeToken()), actor=up, workspace=WORKSPACE, stream_id=token_id))

    async def _command(self, command: Command) -> None:
        data = self.keys.pack(COMMANDS, codec.encode(command))
        for tried in range(TRIES):
            with contextlib.suppress(UnavailableError):
                answer = msgspec.json.decode(await self.bus.command(LOG_CATALOGUE, 0, data, timeout_s=1.0), type=Answer)
                taken = tried and answer.error is not None and answer.error.type == ConflictError.type
                assert taken or answer.error is None, answer  # the answer to an earlier try may have come too late
                return
            await asyncio.sleep(0.02)
        message = "no owner answers"
        raise AssertionError(message)

    # the worker

    def beat(self) -> None:
        if self.beating:
            tools = (
                codec.raw(
                    {
                        "name": "echo",
                        "state": "loaded",
                        "success_count": 3,
                        "error_count": 1,
                        "last_execution_time_ms": 2.0,
                        "avg_execution_time_ms": 1.5,
                    }
                ),
            )
            beat = Beat(
                worker="wrk_one",
                service="runner",
                host="here",
                pools=(RUNNER,),
                slots=4,
                tools=tools,
                at=self.clock.now_ms(),
            )
            self.bus.publish_presence(self.keys.pack(POOL + RUNNER, codec.encode(beat)))

    async def announce(self) -> None:
        for name in TOOLS:
            manifest = ToolManifest(
                name=name, version="1", effect="read", access="auto", idempotent=True, pool=RUNNER,
                input_schema=ANY, output_schema=ANY, description=f"{name}s",
            )  # fmt: skip
            stream = ids.definition("tol", WORKSPACE, name)
            await self._tell(LOG_CATALOGUE, stream, AnnounceTool(manifest=manifest, worker="wrk_one"))
        await until(self._all_known)

    async def announce_limited(self, name: str, limit: RateLimit) -> None:
        """Announce a tool with a rate limit, which the worker performs like `echo`."""
        await self._announce_one(name, rate_limit=limit)

    async def announce_integration(self, name: str, integration: str) -> None:
        """Announce an operation of an integration."""
        await self._announce_one(name, requires_connection=integration)

    async def _announce_one(self, name: str, **more: Any) -> None:
        manifest = ToolManifest(
            name=name, version="1", effect="read", access="auto", idempotent=True, pool=RUNNER,
            input_schema=ANY, output_schema=ANY, **more,
        )  # fmt: skip
        stream = ids.definition("tol", WORKSPACE, name)
        await self._tell(LOG_CATALOGUE, stream, AnnounceTool(manifest=manifest, worker="wrk_one"))

        async def known() -> bool:
            return bool(await self.log.rows("tools", {"workspace": WORKSPACE, "name": name}))

        await until(known)

    async def _all_known(self) -> bool:
        return len(await self.log.rows("tools", {"workspace": WORKSPACE})) == len(TOOLS)

    async def _tell(self, log: str, stream: str, body: Any) -> None:
        told = Told(stream_id=stream, body=codec.raw(body), workspace=WORKSPACE)
        await self.bus.tell(log, ids.partition_of(stream), self.keys.pack(POOL + RUNNER, codec.encode(told)))

    async def work(self, group: asyncio.TaskGroup) -> None:
        source = await self.bus.open_work(RUNNER, self.orders.put_nowait)
        source.want(1_000)
        while True:
            delivery = await self.orders.get()
            _, body = self.keys.unpack(delivery.data)
            group.create_task(self._perform(msgspec.json.decode(body, type=WorkOrder)))

    async def _perform(self, order: WorkOrder) -> None:
        self.performed.append(order.tool)
        self.ordered.append(order)
        report: dict[str, Any] = {"status": "succeeded", "output": codec.raw({"said": codec.loads(order.arguments)})}
        match order.tool:
            case "broken":
                report = {
                    "status": "failed",
                    "error": ErrorInfo(type="upstream_error", message="API rate limit exceeded"),
                    "retryable": False,
                }
            case "hold":
                await self.go.wait()
            case "big":
                report = {"status": "succeeded", "blob": await self._put(order, codec.dumps({"text": BIG}))}
            case "stolen":
                known = BlobRef(digest=codec.sha256(SECRET), size_bytes=len(SECRET))
                report = {"status": "succeeded", "blob": known}
            case "chatty":
                await self.say(order, 3)
            case "filed":
                kept = ArtifactInfo(type="file", label="report", value=codec.raw("out/report.md"))
                report["artifacts"] = (kept,)
            case _:
                pass
        now = self.clock.now_ms()
        done = ReportAttempt(
            run_id=order.run_id, step=order.step, attempt=order.attempt, attempt_id=order.attempt_id, index=order.index,
            worker="wrk_one", started_at=now, finished_at=now, **report,
        )  # fmt: skip
        await self._tell(LOG_RUNS, order.run_id, done)

    async def _put(self, order: WorkOrder, body: bytes) -> BlobRef:
        digest = codec.sha256(body)
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {order.blob_token}"}, verify=PLAIN) as http:
            response = await http.put(f"{self.url}/api/blobs/{digest}", content=body)
        assert response.status_code == 201, response.text
        return BlobRef(digest=digest, size_bytes=len(body), preview=body[:200].decode())

    async def say(self, order: WorkOrder, count: int) -> None:
        lines = [
            Line(run_id=order.run_id, attempt_id=order.attempt_id, step=order.step, sequence=number, at=self.clock.now_ms(),
                 text=f"line {number}", workspace=order.workspace)
            for number in range(1, count + 1)
        ]  # fmt: skip
        await self.bus.publish_lines(codec.dumps(lines))


_routes: list[FastAPI] = []
"""Routes that no world uses now: FastAPI takes longer to make them than most tests here take."""


@contextlib.contextmanager
def application(desk: Desk) -> Iterator[ASGIApp]:
    """Give the api's application over a desk, as `create_app` makes it, with routes that were another world's before."""
    if not _routes:
        _routes.append(make_routes(desk))
        check(_routes[0])
    routes = _routes.pop()
    routes.state.desk = desk
    yield Front(routes, desk, Direct(routes, desk))
    _routes.append(routes)


@contextlib.asynccontextmanager
async def living(log: Log, clock: SystemClock, **options: Any) -> AsyncIterator[World]:
    """Run everything for one test."""
    world = World(log, clock, **options)
    with application(world.desk) as app:
        async with _served(world, app):
            yield world
    await world.api_bus.close()
    await world.bus.close()


@contextlib.asynccontextmanager
async def _served(world: World, app: ASGIApp) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        host = group.create_task(world.host().run())
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        # asyncio turns Nagle off for what is named TCP alone; with him, each refused request waits for 40 ms
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        world.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = group.create_task(server.serve([listener]))
        subscriptions = await world.desk.open()
        working = group.create_task(world.work(group))
        async with asyncio.TaskGroup() as minting:
            roles = ("admin", "operator", "approver", "viewer")
            made = {role: minting.create_task(world.mint(role)) for role in roles}
            made["stranger"] = minting.create_task(world.mint("admin", "elsewhere", "stranger"))
            minting.create_task(world.announce())
        world.tokens |= {role: token.result() for role, token in made.items()}
        world.beat()
        try:
            yield
        finally:
            world.go.set()
            server.should_exit = True
            await serving
            for subscription in subscriptions:
                await subscription.close()
            working.cancel()
            host.cancel()
