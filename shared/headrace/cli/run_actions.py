"""Steering a run: start, pause, resume, settle, rerun; and what it did to the world."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from headrace.cli.inputs import as_declared, declared_of, inputs_of, may_be_text
from headrace.cli.options import Out, Output, Token, Url, ago, read_json, read_text, show, show_table, work
from headrace.cli.runs import RunId
from headrace.errors import MissingArgumentError

if TYPE_CHECKING:
    from headrace.client.client import Client
    from headrace.client.views import Run

Told = dict[str, Any]
Reason = Annotated[str, typer.Option(help="Why; it is shown with the run.")]


def act(run: str, action: str, output: Out, url: str | None, token: str | None, told: Told | None = None) -> NoReturn:
    """Act on one run, and end the command with how it stands."""

    async def todo(api: "Client") -> None:
        known = await api.act(run, action, **(told or {}))
        body = await api.get(f"/runs/{known.id}")
        show(output, body, lambda: print(_told(known, action)))

    work(url, token, todo)


def _told(run: "Run", action: str) -> str:
    if action == "cancel" and run.cancel_requested:
        return f"{run.id}: a cancel is asked for; attempts are being stopped"
    if action in {"retry", "rerun"}:
        since = f" from {run.rerun_from}" if run.rerun_from else ""
        return f"{run.id}: {run.status} ({action} of {run.retry_of}{since})"
    waits = f", waits for {run.waiting_for}" if run.waiting_for else ""
    return f"{run.id}: {run.status}{waits}"


def start(run: RunId, output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """Start a run that waits for somebody to."""
    act(run, "start", output, url, token)


def pause(run: RunId, reason: Reason = "", output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """Pause a run: what is under way ends, nothing new begins until it is resumed."""
    act(run, "pause", output, url, token, {"reason": reason})


def resume(run: RunId, output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """Let a paused run go on."""
    act(run, "resume", output, url, token)


def rerun(
    run: RunId,
    from_step: Annotated[str, typer.Option("--from", metavar="STEP", help="The first step to perform anew.")],
    single: Annotated[list[str] | None, typer.Option("--set", help="INPUT=VALUE that differs; again for more.")] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Run a finished run again from a step, as a new run: the results before that step stand.

    An input may differ as long as no result that stands depends on it.
    """
    given = single or []
    inputs = inputs_of(given, None, "--set")

    async def todo(api: "Client") -> None:
        typed = inputs
        if may_be_text(given, inputs):
            digest = (await api.run(run)).plan_digest
            typed = as_declared(given, inputs, await declared_of(api, {"plan_digest": digest}))
        known = await api.act(run, "rerun", from_step=from_step, inputs=typed)
        body = await api.get(f"/runs/{known.id}")
        show(output, body, lambda: print(_told(known, "rerun")))

    work(url, token, todo)


def settle(
    run: RunId,
    step: Annotated[str, typer.Argument(metavar="STEP", help="The step, such as notify, or notify[3] for an item.")],
    *,
    happened: Annotated[bool, typer.Option("--happened", help="It happened: the step succeeds.")] = False,
    not_happened: Annotated[
        bool, typer.Option("--not-happened", help="It did not: it is tried again, unless it has failed for good since.")
    ] = False,
    give_up: Annotated[bool, typer.Option("--give-up", help="Nobody can tell: the step fails.")] = False,
    given: Annotated[
        str | None, typer.Option("--output", help="With --happened: its output as JSON, or @FILE.")
    ] = None,
    reason: Annotated[str, typer.Option(help="How you know; it is recorded.")] = "",
    output: Annotated[Out, typer.Option("-o", help="text, or json for programs.")] = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Say what became of a write whose worker was lost while it acted."""
    told = {"happened": happened, "not_happened": not_happened, "give_up": give_up}
    answers = [name for name, chosen in told.items() if chosen]
    if len(answers) != 1:
        message = "say exactly one of --happened, --not-happened, --give-up"
        raise MissingArgumentError(message)
    fields: Told = {"step": step, "answer": answers[0], "reason": reason}
    if given is not None:
        fields["output"] = read_json(read_text(Path(given[1:])) if given.startswith("@") else given, "--output")
    act(run, "settle", output, url, token, fields)


def signal(
    run: RunId,
    name: Annotated[str, typer.Argument(help="The name that a step of the run waits for.")],
    given: Annotated[str | None, typer.Option("--data", help="What it carries, as JSON; @FILE reads a file.")] = None,
    signal_id: Annotated[
        str | None, typer.Option("--id", help="Tells a repeat: again with it changes nothing.")
    ] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Send a run a signal; it is kept until a step waits for it."""
    fields: Told = {"name": name}
    if given is not None:
        fields["data"] = read_json(read_text(Path(given[1:])) if given.startswith("@") else given, "--data")
    if signal_id is not None:
        fields["signal_id"] = signal_id
    act(run, "signal", output, url, token, fields)


def effects(
    run: RunId,
    limit: Annotated[int | None, typer.Option(min=1, max=100, help="Only the first so many; all by default.")] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """List what a run did to the world: every claimed attempt, and what became of it."""

    async def todo(api: "Client") -> None:
        if limit is None:
            items = await api.effects(run)
        else:
            items = (await api.get(f"/runs/{run}/effects", limit=limit))["items"]
        columns = ("step", "tool", "effect", "attempt", "outcome", "worker", "claimed", "idempotency key")
        show(output, items, lambda: show_table(columns, [_effect(item) for item in items]))

    work(url, token, todo)


def _effect(item: dict[str, Any]) -> Sequence[Any]:
    settled = item["settled"]
    who = (settled["by"] or {}).get("name") or settled["reason"] if settled else None
    outcome = item["outcome"] + (f" (settled by {who})" if who else "")
    return (
        item["instance"],
        item["tool"],
        item["effect"],
        item["attempt"],
        outcome,
        item["worker"],
        ago(item["claimed_at"]),
        item["idempotency_key"],
    )


ACTIONS = (start, pause, resume, settle, signal, rerun, effects)
"""Commands of `headrace runs` that are made here."""
