"""`headrace demo`: the main job, run for real on this machine, with its promises tried one by one."""

import asyncio
from pathlib import Path
from typing import Final

import msgspec

import headrace
from headrace.client.client import Client
from headrace.client.streams import COMPLETE, Event
from headrace.client.views import Approval, Run
from headrace.clock import SystemClock
from headrace.codec import digest
from headrace.config import Config
from headrace.dev import proof
from headrace.dev.embedded import free_port
from headrace.dev.screen import Screen
from headrace.dev.stack import Stack, running
from headrace.dev.timeline import Timeline
from headrace.dev.until_stopped import INTERRUPTED, until_stopped
from headrace.errors import ConflictError, HeadraceError, NotFoundError
from headrace.plans.model import Plan
from headrace.vocabulary import Role, RunStatus

EXAMPLE: Final = Path("examples/repo-report.yaml")
PLANNER: Final = "planner"
ENDED_S: Final = 120.0


async def demo(config: Config) -> int:
    """Run the main job in a data folder of its own, made new each time; gives the exit code."""
    return await until_stopped(_demo(config), code=INTERRUPTED)


async def _demo(config: Config) -> int:
    clock, screen = SystemClock(), Screen()
    began = clock.monotonic()
    checkout = find_checkout()
    own = msgspec.structs.replace(
        config,
        data_dir=config.data_dir / "demo",
        database_url=None,
        nats_url=None,
        api_port=free_port(),
        api_url=None,
        file_root=checkout,
    )
    screen.heading("Starting Postgres, NATS and five services")
    async with running(own, clock, screen.say, fresh=True) as stack:
        screen.say(f"ready after {clock.monotonic() - began:.1f} s: {', '.join(sorted(stack.programs))}")
        show = Demo(stack, screen, checkout)
        run = await show.play()
        await stack.stop_services()
        screen.heading("The proof")
        await proof.give(stack.database_url, clock, screen.say)
    screen.heading(f"Done in {clock.monotonic() - began:.1f} s; nothing is left running")
    screen.say(f"report: {show.report}")
    return 0 if run.status is RunStatus.SUCCEEDED else 1


def find_checkout() -> Path:
    """Give the folder of headrace's own source, which the example reports on; raises NotFoundError."""
    for folder in (Path.cwd(), Path(headrace.__file__).parents[2]):
        if (folder / EXAMPLE).is_file():
            return folder
    message = f"{EXAMPLE} is not here: run `headrace demo` in a checkout of headrace"
    raise NotFoundError(message)


class Demo:
    """The story: a plan, a run that loses its planner, three decisions of which one counts, a report."""

    def __init__(self, stack: Stack, screen: Screen, checkout: Path) -> None:
        self._stack, self._screen, self._checkout = stack, screen, checkout
        folder = stack.home.folder
        inside = folder.is_relative_to(checkout)
        self.report = folder / "report.md" if inside else checkout / ".headrace" / "demo-report.md"
        self._killed = 0
        self._decided = False

    async def play(self) -> Run:
        """Tell the whole story and give the run as it ended."""
        url = self._stack.config.base_url
        self.report.parent.mkdir(parents=True, exist_ok=True)
        async with Client(url, self._stack.home.token()) as admin:
            ada = await admin.create_token("ada", [Role.OPERATOR, Role.APPROVER])
            grace = await admin.create_token("grace", [Role.APPROVER])
        async with Client(url, ada["token"]) as requester, Client(url, grace["token"]) as approver:
            steps = await self._plan(requester)
            run = await requester.create_run(spec=self._spec(), inputs=self._inputs())
            self._screen.heading(f"The run {run.id}, as its event stream tells it")
            async with asyncio.timeout(ENDED_S):
                await self._follow(run.id, steps, requester, approver)
            return await requester.run(run.id)

    def _spec(self) -> str:
        return (self._checkout / EXAMPLE).read_text(encoding="utf-8")

    def _inputs(self) -> dict[str, str]:
        return {"report": self.report.relative_to(self._checkout).as_posix()}

    async def _plan(self, client: Client) -> list[str]:
        """Show what will run, before it runs."""
        recorded = await client.record_plan(self._spec())
        self._screen.heading("The plan: exactly what will run, and its digest")
        self._screen.plan(msgspec.convert(recorded["plan"], Plan))
        self._screen.say(recorded["digest"])
        return [step["id"] for step in recorded["plan"]["steps"]]

    async def _follow(self, run_id: str, steps: list[str], requester: Client, approver: Client) -> None:
        """Follow the run by its events to its end; act where the story says so."""
        timeline = Timeline(steps)
        with self._screen.timeline(timeline) as stage:
            async for event in requester.run_events(run_id):
                stage.see(event)
                if event.event == COMPLETE:
                    return
                await self._act(event, timeline, requester, approver)

    async def _act(self, event: Event, timeline: Timeline, requester: Client, approver: Client) -> None:
        data = event.data["data"]
        match event.event:
            case "map.started" if not self._killed:
                self._killed = self._stack.supervisor.kill(PLANNER)
                self._screen.say(f"-> the planner (process {self._killed}) is killed with SIGKILL, now, in the map")
            case "step.succeeded" if self._killed and timeline.steps[data["step"]].total and data.get("index") is None:
                pid = self._stack.supervisor.pid(PLANNER)
                self._screen.say(f"-> the map is done: the planner came back as process {pid} and read the log")
            case "approval.received" if not self._decided:
                self._decided = True
                await self._decide(data["approval_id"], requester, approver)
            case _:
                return

    async def _decide(self, approval_id: str, requester: Client, approver: Client) -> None:
        """Three decisions over the HTTP API: by the requester, on something else, and the one that counts."""
        shown = await requester.approval(approval_id)
        await self._refused("ada, who asked for the run, approves it", requester, shown, None)
        tampered = digest({**shown.shown, "prompt": "something else"})
        await self._refused("grace approves what was tampered with", approver, shown, tampered)
        await approver.decide(shown, "approve", reason="read it")
        self._screen.say(f"-> grace approves exactly what was shown: {shown.digest}")

    async def _refused(self, what: str, client: Client, shown: Approval, other: str | None) -> None:
        """Try a decision that must be refused; raises ConflictError when it is not."""
        try:
            await client.decide(shown, "approve", shown_digest=other)
        except HeadraceError as refusal:
            self._screen.say(f"-> {what}: refused ({refusal.type}): {refusal.message}")
            return
        message = f"{what}: this was not refused, and should have been"
        raise ConflictError(message)
