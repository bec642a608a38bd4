"""Workers: list, show, drain, resume, health, rescue, cleanup."""

from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import typer

from headrace.cli.options import Out, Output, Token, Url, ago, show, show_fields, show_table, work

if TYPE_CHECKING:
    from headrace.client.client import Client

COLUMNS: Final = ("id", "service", "host", "status", "pools", "slots", "holds", "done", "failed", "last seen")
PERCENT: Final = 100

app = typer.Typer(help="Workers: list, show, health, drain, resume, rescue, cleanup. Alone, it lists them.")
WorkerId = Annotated[str, typer.Argument(metavar="WORKER", help="The id of a worker (wrk_…).")]


@app.callback(invoke_without_command=True)
def workers(context: typer.Context, output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """List the workers that live and what they hold, or act on one of them."""
    if context.invoked_subcommand is None:
        list_(output, url, token)


@app.command("list")
def list_(output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """List the workers that were heard of in the last two minutes, and what they hold."""

    async def todo(api: "Client") -> None:
        body = await api.get("/workers")
        show(output, body, lambda: _list(body))

    work(url, token, todo)


@app.command("show")
def show_(worker: WorkerId, output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """Show a worker, with each attempt it holds."""

    async def todo(api: "Client") -> None:
        body = await api.get(f"/workers/{quote(worker)}")
        show(output, body, lambda: _show(body))

    work(url, token, todo)


@app.command()
def health(
    worker: Annotated[str | None, typer.Argument(metavar="[WORKER]", help="Ask this one to answer now.")] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Say whether work can be done; or let one worker answer now, and say how long that took and what it holds."""

    async def todo(api: "Client") -> int:
        if worker is None:
            body = await api.get("/workers/health")
            show(output, body, lambda: _health(body))
            return 0 if body["status"] == "healthy" else 1
        body = await _act(api, worker, "health_check")
        show(output, body, lambda: _answered(body))
        return 0

    work(url, token, todo)


@app.command()
def drain(worker: WorkerId, output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """Let a worker take no more work: it gives back what it has not begun, finishes the rest, and lives on."""
    _do(worker, "drain", output, url, token)


@app.command()
def resume(worker: WorkerId, output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """Let a drained worker take work again."""
    _do(worker, "resume", output, url, token)


@app.command()
def rescue(
    worker: WorkerId,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Also while it beats: it is blocked, or must not go on.")
    ] = False,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Take a worker for dead at once: its attempts are lost, and others take them up."""

    async def todo(api: "Client") -> None:
        body = await _act(api, worker, "rescue", force=force)
        lost = body["lost_attempts"]
        show(
            output, body, lambda: print(f"{worker}: {lost} {'attempt was' if lost == 1 else 'attempts were'} given up")
        )

    work(url, token, todo)


@app.command()
def cleanup(output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """Forget the workers that are stale, and the pools that nobody serves any more."""

    async def todo(api: "Client") -> None:
        body = await api.post("/workers", {"action": "cleanup"})
        told = [*body["forgotten"], *(f"pool {pool}" for pool in body["pools"])]
        show(output, body, lambda: print("\n".join(told) or "no worker is stale, no pool unserved"))

    work(url, token, todo)


def _do(worker: str, action: str, output: Out, url: str | None, token: str | None) -> None:
    async def todo(api: "Client") -> None:
        body = await _act(api, worker, action)
        show(output, body, lambda: print(f"{worker}: {body['worker']['status']}"))

    work(url, token, todo)


async def _act(api: "Client", worker: str, action: str, *, force: bool = False) -> dict[str, Any]:
    told = {"action": action, **({"force": True} if force else {})}
    body: dict[str, Any] = await api.post(f"/workers/{quote(worker)}", told)
    return body


def _list(body: dict[str, Any]) -> None:
    show_table(COLUMNS, [_row(each) for each in body["items"]])
    print()
    rate = body["failure_rate"]
    failures = "" if rate is None else f", {rate * PERCENT:.1f}% of attempts failed"
    print(f"runs: {body['active_runs']} running, {body['queued_runs']} queued{failures}")


def _row(each: dict[str, Any]) -> tuple[Any, ...]:
    status = each["status"] + (" BLOCKED" if each["blocked"] else "")
    counts = (each["slots"], len(each["holding"]), each["done_total"], each["failed_total"])
    return (
        each["id"],
        each["service"],
        each["host"],
        status,
        ", ".join(each["pools"]),
        *counts,
        ago(each["last_seen_at"]),
    )


def _show(each: dict[str, Any]) -> None:
    blocked = each["blocked"]
    fields = [
        ("worker", each["id"]),
        ("service", each["service"]),
        ("host", each["host"]),
        ("status", each["status"]),
        ("blocked", f"since {blocked['since']} by {blocked['tool'] or 'no tool'}" if blocked else None),
        ("pools", ", ".join(each["pools"])),
        ("slots", str(each["slots"])),
        ("abandoned threads", ", ".join(each["abandoned"])),
        ("done", str(each["done_total"])),
        ("failed", str(each["failed_total"])),
        ("cancelled", str(each["cancelled_total"])),
        ("started", each["started_at"]),
        ("last seen", each["last_seen_at"]),
    ]
    show_fields(fields)
    if each["holding"]:
        print()
        columns = ("attempt", "tool", "run", "step", "since", "progress")
        show_table(columns, [_held(held) for held in each["holding"]])


def _held(held: dict[str, Any]) -> tuple[Any, ...]:
    step = held["step"] if held["item"] is None else f"{held['step']}[{held['item']}]"
    share = "" if held["progress"] is None else f"{held['progress'] * PERCENT:.0f}% {held['message'] or ''}".rstrip()
    progress = share if held["begun"] else "waits"
    return (held["attempt_id"], held["tool"], held["run_id"], step, ago(held["since"]), progress)


def _answered(body: dict[str, Any]) -> None:
    print(f"{body['id']} answered in {body['latency_ms']:g} ms")
    print()
    _show(body["worker"])


def _health(body: dict[str, Any]) -> None:
    print(body["status"])
    print()
    rows = [
        (pool, each["workers"], each["slots"], each["holding"], ago(each["last_served_at"]))
        for pool, each in body["pools"].items()
    ]
    show_table(("pool", "workers", "slots", "holds", "served"), rows)
    print()
    print(f"runs: {body['active_runs']} running, {body['queued_runs']} queued")
    for problem in body["problems"]:
        print(f"- {problem}")
