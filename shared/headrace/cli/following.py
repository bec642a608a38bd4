"""A run as it happens, fed by its event stream alone: a live table on a terminal, plain lines in a pipe."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self

from headrace.cli.exits import FAILED, WAITING
from headrace.cli.narrating import line, sentence
from headrace.errors import ConflictError
from headrace.events.parts import parts_of
from headrace.vocabulary import PAGE_MAX, ApprovalStatus, RunStatus

if TYPE_CHECKING:
    from headrace.client.client import Client
    from headrace.client.views import Approval, Run

PEOPLE: Final = frozenset({"approval", "start", "input", "connection", "signal", "resume"})
"""What only somebody can end; a timer or a retry ends by itself."""
LOOK: Final = frozenset(
    {
        *("run.queued", "run.paused", "outcome.lost", "wait.started"),
        *("approval.requested", "approval.received", "approval.resolved"),
    }
)
SETTLED: Final = ("succeeded", "failed", "cancelled", "skipped")
MARKS: Final = {"succeeded": "✓", "failed": "✗", "skipped": "-", "cancelled": "-", "running": "•", "waiting": "…"}


async def follow(api: "Client", run_id: str, *, wait: bool, quiet: bool = False) -> int:
    """Follow a run to its end, or until only a person can move it (then exit code 3, unless `wait`)."""
    from headrace.client.streams import COMPLETE

    screen: Screen = Live(await api.run(run_id)) if sys.stdout.isatty() and not quiet else Plain(quiet=quiet)
    watching, opened, shown = False, set[str | None]({None}), 0
    answers: dict[str, bool] = {}
    with screen:
        async for event in api.run_events(run_id):
            if event.event == COMPLETE:
                screen.over(event.data)
                return 0 if event.data["status"] == RunStatus.SUCCEEDED else FAILED
            if int(event.id or 0) <= shown:
                continue  # it was shown with what had happened when the run seemed to wait
            screen.happened(event.data)
            if event.event == "approval.received":
                opened.add(event.data["data"].get("approval_id"))
            watching = watching or event.event in LOOK
            if not watching:
                continue
            run = await api.run(run_id)
            watching = bool(run.waiting) and not run.over
            if _stands(run, opened):
                await _decide(api, run, screen, answers)
                moves = any(answers.get(str(waits.get("approval_id"))) for waits in run.waiting)
                if not moves and not wait:
                    shown = await _caught_up(api, run_id, int(event.id or 0), screen)
                    if _stands(run := await api.run(run_id), None):
                        screen.note(_hint(run))
                        return WAITING
    return FAILED


def _stands(run: "Run", opened: set[str | None] | None) -> bool:
    """Tell whether only somebody can move the run, and its questions (of `opened`, unless it is None) can be answered."""
    told = opened is None or all(waits.get("approval_id") in opened for waits in run.waiting)
    return run.status == RunStatus.WAITING and run.waiting_for in PEOPLE and told


async def _caught_up(api: "Client", run_id: str, after: int, screen: "Screen") -> int:
    """Show what has happened after an event until now, which the stream would bring; give the last one's number."""
    while True:
        page = await api.get(f"/runs/{run_id}/events", cursor=str(after), limit=PAGE_MAX)
        for each in page["items"]:
            screen.happened(each)
            after = int(each["id"])
        if page["next_cursor"] is None:
            return after


async def _decide(api: "Client", run: "Run", screen: "Screen", answers: dict[str, bool]) -> None:
    """Ask the one at the terminal once about each approval that they may decide; `answers` keeps whether it is over."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    from headrace.cli.terminal import asked

    me = await api.me()
    for approval_id in [str(waits["approval_id"]) for waits in run.waiting if waits.get("approval_id")]:
        approval = await api.approval(approval_id)
        if approval_id in answers or not may(me.id, me.roles, approval):
            continue
        with screen.aside():
            show_approval(approval)
            answer = (await asked("approve? y approves, n rejects, Enter leaves it open [y/N] ") or "").lower()
        action = "approve" if answer in {"y", "yes"} else "reject" if answer in {"n", "no"} else None
        answers[approval_id] = False
        if action is None:
            continue
        reason = "" if action == "approve" else "rejected at the terminal"
        try:
            approval = await api.decide(approval, action, reason=reason)
            answers[approval_id] = approval.status != ApprovalStatus.PENDING
        except ConflictError as problem:
            screen.note(problem.message)  # somebody else was faster: how it ended, the run's events tell
            answers[approval_id] = True


def may(caller: str, roles: list[str], approval: "Approval") -> bool:
    """Tell whether a caller may decide: not who asked, not twice, and with one of its roles."""
    if approval.status != ApprovalStatus.PENDING or approval.requester.id == caller:
        return False
    if any(decision.get("id") == caller for decision in approval.decisions):
        return False
    return "admin" in roles or not set(roles).isdisjoint(approval.roles)


def show_approval(approval: "Approval") -> None:
    """Print exactly what is decided on, and the digest computed from it."""
    from headrace.cli.options import needed, show_json, so_far
    from headrace.codec import digest

    print(f"approval {approval.id} is {approval.status}: asked by {approval.requester.name},", end=" ")
    print(
        f"{needed(approval.quorum, approval.roles)} must approve{so_far(approval.quorum, approval.decisions)}"
        + (f", until {approval.expires_at}" if approval.expires_at else "")
    )
    print("what is decided on:")
    show_json(approval.shown)
    computed = digest(approval.shown)
    print(f"its digest: {computed}")
    if computed != approval.digest:
        print(
            f"WARNING: the api says {approval.digest}: what is shown is not what would be decided on", file=sys.stderr
        )


def _hint(run: "Run") -> str:
    told = [f"{run.id} waits for {run.waiting_for}"]
    for waits in run.waiting:
        if waits.get("approval_id"):
            other = f"somebody other than {run.requester.name}: " if run.requester.name else ""
            told.append(f"{other}headrace approvals approve {waits['approval_id']} --token TOKEN")
        elif waits.get("for") == "signal":
            told.append(f"headrace runs signal {run.id} {waits.get('name')} [--data JSON]")
        elif waits.get("for") == "start":
            told.append(f"headrace runs start {run.id}")
        elif waits.get("for") == "resume":
            told.append(f"headrace runs resume {run.id}")
        elif waits.get("for") == "input":
            step = (waits.get("evidence") or {}).get("step") or waits.get("step")
            told.append(f"headrace runs settle {run.id} {step} --happened | --not-happened | --give-up")
    return " -> ".join(told)


class Screen:
    """Where a followed run is shown."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def happened(self, event: Mapping[str, Any]) -> None:
        """Show an event."""

    def over(self, last: Mapping[str, Any]) -> None:
        """Show the end."""

    def note(self, text: str) -> None:
        """Say something beside."""
        print(text, file=sys.stderr, flush=True)

    def aside(self) -> "Screen":
        """Give the terminal back while somebody is asked."""
        return self


class Plain(Screen):
    """Plain lines, one an event, for pipes and logs; nothing at all when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def happened(self, event: Mapping[str, Any]) -> None:
        """Show an event."""
        if not self._quiet:
            print(line(event), flush=True)

    def over(self, last: Mapping[str, Any]) -> None:
        """Show the end."""
        if not self._quiet:
            print(f"{last.get('finished_at')} {last['id']} {last['status']}", flush=True)


class Live(Screen):
    """A table of steps that changes in place."""

    def __init__(self, run: "Run") -> None:
        from rich.live import Live as Region

        self._run, self._note, self._beside = run, "", ""
        self._steps: dict[str, dict[str, Any]] = {
            step.step: {"kind": step.kind, "status": "pending", "done": 0, "total": None, "note": ""}
            for step in run.steps
        }
        self._region = Region(self._table(), refresh_per_second=12, transient=False)

    def __enter__(self) -> Self:
        """Begin."""
        self._region.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, leaving the last picture."""
        self._region.update(self._table(), refresh=True)
        self._region.stop()
        if self._beside:
            print(self._beside, file=sys.stderr, flush=True)

    def aside(self) -> Screen:
        """Give the terminal back while somebody is asked."""
        return _Aside(self)

    def pause(self) -> None:
        """Stop drawing."""
        self._region.stop()

    def resume(self) -> None:
        """Draw again."""
        self._region.start()

    def happened(self, event: Mapping[str, Any]) -> None:
        """Show an event."""
        for kind, data in parts_of(str(event["type"]), event["data"]):
            self._note = sentence(kind, data)
            step = self._steps.get(str(data.get("step") or ""))
            if step is not None:
                self._change(step, kind, data)
        self._region.update(self._table())

    def _change(self, step: dict[str, Any], kind: str, data: Mapping[str, Any]) -> None:
        item = data.get("index") is not None
        outcome = kind.removeprefix("step.")
        if kind == "map.started":
            step.update(status="running", total=data.get("count"))
        elif item and outcome in {"succeeded", "failed"}:
            step["done"] += 1
            step["status"] = "succeeded" if step["done"] == step["total"] else "running"
        elif outcome in SETTLED and kind.startswith("step."):
            step.update(status=outcome, note=(data.get("error") or {}).get("message") or data.get("reason") or "")
        elif kind == "step.reused":
            step.update(status=data.get("status") or "succeeded", note=f"as {data.get('run_id')} left it")
        elif kind in {"approval.requested", "timer.started", "outcome.lost"}:
            step["status"] = "waiting"
        elif step["status"] not in SETTLED:
            step["status"] = "running"

    def over(self, last: Mapping[str, Any]) -> None:
        """Show the end."""
        self._note = f"{last['id']} {last['status']}"
        self._region.update(self._table())

    def note(self, text: str) -> None:
        """Say something beside: below the last picture, on a line of its own that can be copied."""
        self._beside = text

    def _table(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        colours = {"succeeded": "green", "failed": "red", "running": "cyan", "waiting": "yellow"}
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, step in self._steps.items():
            status = step["status"]
            items = f"{step['done']}/{step['total']}" if step["total"] is not None else ""
            mark = Text(MARKS.get(status, " "), style=colours.get(status, "dim"))
            table.add_row(
                mark,
                Text(name),
                Text(step["kind"], style="dim"),
                Text(status, style=colours.get(status, "dim")),
                items,
                Text(step["note"]),
            )
        return Group(Text(f"{self._run.name}  {self._run.id}", style="bold"), table, Text(self._note, style="dim"))


class _Aside(Screen):
    """The live table stopped, and started again after."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def __enter__(self) -> Self:
        """Stop drawing."""
        self._live.pause()
        return self

    def __exit__(self, *_: object) -> None:
        """Draw again."""
        self._live.resume()
