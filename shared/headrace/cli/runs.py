"""Runs: list, show, follow, act on."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace import ids
from headrace.cli.options import (
    OF_NO_WORKFLOW,
    Out,
    Output,
    Token,
    Url,
    ago,
    body_shown,
    needed,
    pairs,
    show,
    show_fields,
    show_table,
    so_far,
    work,
)
from headrace.errors import NotFoundError

if TYPE_CHECKING:
    from headrace.client.client import Client
    from headrace.client.streams import Event

app = typer.Typer(
    no_args_is_help=True, help="Runs: list, show, events, logs, result, effects, explain; cancel, pause, retry."
)


def named(given: str | None) -> str | None:
    """Refuse what cannot be an id, such as a variable of the shell that is empty."""
    if given is not None and not given.replace("_", "").isalnum():
        message = f"{given!r} is no id of a run, such as run_01m8…; `headrace runs list` shows them"
        raise typer.BadParameter(message)
    return given


RunId = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run.", callback=named)]


@app.command("list")
def list_(
    status: Annotated[list[str] | None, typer.Option(help="Only these statuses; again for more.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Only runs of this workflow.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only runs about this subject.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Only runs with the label NAME=VALUE; again for more.")
    ] = None,
    parent: Annotated[str | None, typer.Option(metavar="RUN", help="Only the child runs of this run.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    *,
    all_: Annotated[bool, typer.Option("--all", help="All there are, not only the newest.")] = False,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """List runs, the newest first.

    Example: headrace runs list --status failed --label team=infra
    """
    told = [f"{name}={value}" for name, value in pairs(label or [], "--label").items()] or None

    async def todo(api: "Client") -> None:
        where = {"workflow": workflow, "subject": subject, "label": told, "parent": parent}
        if all_:
            items = [item async for item in api.pages("/runs", status=status or None, limit=100, **where)]
            page: dict[str, Any] = {"items": items, "next_cursor": None}
        else:
            page = await api.get("/runs", status=status or None, limit=limit, **where)

        def text() -> None:
            columns = ("id", "status", "waiting for", "name", "steps", "requester", "created")
            show_table(columns, [_row(item) for item in page["items"]])
            if page["next_cursor"]:
                typer.echo(f"there are more than these {limit}: --all lists them", err=True)
            elif workflow and not page["items"]:
                typer.echo(OF_NO_WORKFLOW, err=True)

        show(output, page, text)

    work(url, token, todo)


def _row(run: dict[str, Any]) -> Sequence[Any]:
    done = f"{run['steps_done']}/{run['steps_total']}"
    requester = run["requester"]["name"]
    return (run["id"], run["status"], run["waiting_for"], run["name"], done, requester, ago(run["created_at"]))


@app.command("show")
def show_(run: RunId, output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """Show a run with its steps."""

    async def todo(api: "Client") -> None:
        body = await api.get(f"/runs/{run}")
        decisions = await _decisions(api, body) if output == Out.TEXT else {}
        show(output, body, lambda: show_run(body, decisions))

    work(url, token, todo)


async def _decisions(api: "Client", body: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Give the decisions that were made on each approval which a run waits for and several must give."""
    found: dict[str, list[dict[str, Any]]] = {}
    for waits in body["waiting"]:
        if waits.get("quorum", 1) > 1:
            with suppress(NotFoundError):  # the run has asked, and the gatekeeper is about to
                found[waits["approval_id"]] = (await api.get(f"/approvals/{waits['approval_id']}"))["decisions"]
    return found


def show_run(body: dict[str, Any], decisions: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Print a run with its steps; `decisions` are those made on each approval that several must give."""
    error = body["error"]
    fields = [
        ("run", body["id"]),
        ("status", body["status"] + (f" (waits for {body['waiting_for']})" if body["waiting_for"] else "")),
        ("name", body["name"]),
        ("error", f"{error['type']}: {error['message']}" if error else None),
        ("plan", body["plan_digest"]),
        ("requester", body["requester"]["name"]),
        ("attempt", body["attempt"] if body["attempt"] > 1 else None),
        ("retry of", body["retry_of"]),
        ("rerun from", body["rerun_from"]),
        ("retried by", ", ".join(each["id"] for each in body["retried_by"])),
        ("child of", f"{parent['id']}, step {parent['instance']}" if (parent := body["parent"]) else None),
        ("created", body["created_at"]),
        ("started", body["started_at"]),
        ("finished", body["finished_at"]),
        ("inputs", body["inputs"]),
        ("outputs", body["outputs"]),
    ]
    show_fields(fields)
    for waits in body["waiting"]:
        until = f" until {waits['until']}" if waits["until"] else ""
        what = _awaited(waits, decisions.get(waits["approval_id"] or "", ()))
        print(f"waits for {waits['for']}: {waits['step'] + ': ' if waits['step'] else ''}{what}{until}")
    print()
    show_table(("step", "kind", "status", "items", "attempt", "error"), [_step(step) for step in body["steps"]])
    if body["children"]:
        total = body["children_total"]
        print(
            f"\nchild runs{f' (the newest {len(body["children"])} of {total})' if total > len(body['children']) else ''}"
        )
        show_table(("step", "attempt", "run", "status", "waiting for"), [_child(each) for each in body["children"]])
    attempts = [_attempt(step, each) for step in body["steps"] for each in step["attempts"]]
    if attempts:
        print("\nfailed attempts")
        show_table(("step", "attempt", "status", "worker", "finished", "next", "error"), attempts)


def _awaited(waits: Mapping[str, Any], decisions: Sequence[Mapping[str, Any]]) -> str:
    """Say what is waited for; of an approval how many of whom must give it, and who has."""
    if not waits.get("roles"):
        return str(waits["message"])
    return f"{needed(waits['quorum'], waits['roles'])} must approve{so_far(waits['quorum'], decisions)}"


def _child(each: dict[str, Any]) -> Sequence[Any]:
    return (each["instance"], each["attempt"], each["id"], each["status"], each["waiting_for"] or "")


def _attempt(step: dict[str, Any], each: dict[str, Any]) -> Sequence[Any]:
    name = ids.instance(step["step"], each["index"], each["iteration"])
    error = f"{each['error']['type']}: {each['error']['message']}"
    finished, next_at = ago(each["finished_at"]), ago(each["next_at"])
    return (name, each["number"], each["status"], each["worker"] or "", finished, next_at, error)


def _step(step: dict[str, Any]) -> Sequence[Any]:
    items = f"{step['items_done'] or 0}/{step['items_total']}" if step["items_total"] is not None else ""
    items += f" ({step['items_failed']} failed)" if step.get("items_failed") else ""
    error = f"{step['error']['type']}: {step['error']['message']}" if step["error"] else step.get("reason") or ""
    if step["reused_from"]:
        error = f"stands from {step['reused_from']}" + (f": {error}" if error else "")
    return (step["step"], step["kind"], step["status"], items, step["attempt"] or "", error)


@app.command()
def result(
    run: RunId,
    step: Annotated[
        str | None, typer.Option(help="Print the whole output of this step instead, as JSON, whatever its size.")
    ] = None,
    output: Output = Out.JSON,
    url: Url = None,
    token: Token = None,
) -> None:
    """Print the result of a finished run, or the output of one step, which may be had as soon as it succeeded."""

    async def todo(api: "Client") -> None:
        if step is not None:
            body_shown(await api.output(run, step))
            return
        body = await api.result(run)
        fields = [(name, body[name]) for name in ("id", "status", "error", "outputs", "views")]
        show(output, body, lambda: show_fields(fields))

    work(url, token, todo)


@app.command()
def events(
    run: RunId,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is over.")] = False,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Print a run's events."""

    async def todo(api: "Client") -> None:
        from headrace.cli.narrating import line

        if follow:
            await _print_followed(api.run_events(run), output, line)
        else:
            await _print_pages(api.pages(f"/runs/{run}/events", limit=100), output, line)

    work(url, token, todo)


async def _print_followed(stream: AsyncIterator["Event"], output: Out, text_of: Callable[[Any], str]) -> None:
    """Print what comes until the run is over; that it is over is said in JSON alone."""
    from headrace.client.streams import COMPLETE

    async for event in stream:
        _print_item(output, event.data, "" if event.event == COMPLETE else text_of(event.data))


async def _print_pages(items: AsyncIterator[Any], output: Out, text_of: Callable[[Any], str]) -> None:
    """Print what is there by now."""
    async for item in items:
        _print_item(output, item, text_of(item))


def _print_item(output: Out, data: Any, text: str) -> None:
    from headrace import codec

    told = codec.dumps(data).decode() if output is Out.JSON else text
    if told:
        print(told, flush=True)


@app.command()
def logs(
    run: RunId,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is over.")] = False,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Print what a run printed."""

    async def todo(api: "Client") -> None:
        if follow:
            await _print_followed(api.run_lines(run), output, _line)
        else:
            await _print_pages(api.pages(f"/runs/{run}/logs", limit=100), output, _line)

    work(url, token, todo)


def _line(line: dict[str, Any]) -> str:
    step = line["step"] or "-"
    name = step if line["index"] is None else f"{step}[{line['index']}]"
    return f"{line['at']} {line['level']:<7} {name}: {line['text']}"


@app.command()
def explain(run: RunId, output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """Say why a run is not moving, and what would move it."""

    async def todo(api: "Client") -> None:
        body = await api.get(f"/runs/{run}/explain")

        def text() -> None:
            print(f"{run}: {body['status']}")
            for reason in body["reasons"]:
                step = f"{reason['step']}: " if reason["step"] and reason["step"] not in reason["message"] else ""
                print(f"- {step}{reason['message']}" + (f" -> {reason['remedy']}" if reason["remedy"] else ""))

        show(output, body, text)

    work(url, token, todo)
