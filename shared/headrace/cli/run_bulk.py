"""`headrace runs cancel|retry|purge`: one run, or all that a query means, previewed first and done in pages."""

import sys
from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import msgspec
import typer

from headrace.cli.exits import FAILED, SUCCEEDED, USAGE
from headrace.cli.options import OF_NO_WORKFLOW, Out, Output, Token, Url, ago, pairs, show, show_table, work
from headrace.cli.run_actions import Reason, act
from headrace.cli.runs import named
from headrace.errors import MissingArgumentError, ValidationError

if TYPE_CHECKING:
    from headrace.client.client import Client

DONE: Final = {"cancel": "cancelled", "retry": "run again", "purge": "purged"}
ALREADY: Final = {"cancel": "being cancelled", "retry": "run again", "purge": "purged"}
FOR: Final = {
    "cancel": "what is over cannot be cancelled",
    "retry": "only what failed or was cancelled is run again",
    "purge": "only what is over is purged",
}
REFUSED_SHOWN_MAX: Final = 20
RunId = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="One run; else all that the options mean.", callback=named)
]
Workflow = Annotated[str | None, typer.Option(help="Of many: runs of this workflow.")]
Status = Annotated[list[str] | None, typer.Option(help="Of many: in this status; again for more.")]
Label = Annotated[list[str] | None, typer.Option(help="Of many: with the label NAME=VALUE; again for more.")]
Older = Annotated[str | None, typer.Option("--older-than", help="Of many: created longer ago than this, such as 2d.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; in a pipe nothing is done to many without it.")]


class Chosen(msgspec.Struct, frozen=True):
    """What a command was asked to act on, one run or all that a query means, and how to say what became of it."""

    run: str | None
    query: dict[str, Any]
    yes: bool
    output: Out
    url: str | None
    token: str | None

    def do(self, action: str, reason: str = "") -> NoReturn:
        """Act on all that the query means."""
        work(self.url, self.token, lambda api: _many(api, action, self.query, reason, self.output, yes=self.yes))


def _chosen(
    run: RunId = None,
    workflow: Workflow = None,
    status: Status = None,
    label: Label = None,
    older_than: Older = None,
    *,
    yes: Yes = False,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> Chosen:
    """Read the options that every command here has; raises ValidationError, MissingArgumentError."""
    told = {"workflow": workflow, "status": status, "labels": pairs(label or [], "--label"), "older_than": older_than}
    query = {name: value for name, value in told.items() if value}
    if run is not None and query:
        message = "name one run, or say which ones by options, not both"
        raise ValidationError(message)
    if run is None and not query:
        message = "name a run, or say which ones: --workflow, --status, --label, --older-than"
        raise MissingArgumentError(message)
    return Chosen(run, query, yes, output, url, token)


def _of_many(action: Callable[..., None]) -> Callable[..., None]:
    """Give a command, beside its own options, those of `_chosen`: its first parameter is what they say."""
    shared = signature(_chosen).parameters
    _, *own = signature(action).parameters.values()

    def command(**given: Any) -> None:
        chosen = _chosen(**{name: given.pop(name) for name in shared})
        action(chosen, **given)

    whole = [*shared.values(), *(each.replace(kind=Parameter.KEYWORD_ONLY) for each in own)]
    command.__name__, command.__doc__ = action.__name__, action.__doc__
    command.__annotations__ = {each.name: each.annotation for each in whole}
    vars(command)["__signature__"] = Signature(whole)
    return command


@_of_many
def cancel(chosen: Chosen, reason: Reason = "") -> None:
    """Cancel a run, or many; one that is over is refused."""
    if chosen.run is not None:
        act(chosen.run, "cancel", chosen.output, chosen.url, chosen.token, {"reason": reason})
    chosen.do("cancel", reason)


@_of_many
def retry(chosen: Chosen) -> None:
    """Run a failed or cancelled run again, as a new run; of many, those that nobody has retried yet."""
    if chosen.run is not None:
        act(chosen.run, "retry", chosen.output, chosen.url, chosen.token)
    chosen.do("retry")


@_of_many
def purge(chosen: Chosen, reason: Reason = "") -> None:
    """Let finished runs go: lists, steps, artifacts and lines forget them; their events stay with their month."""
    if chosen.run is not None:

        async def one(api: "Client") -> None:
            body = await api.post(f"/runs/{chosen.run}", {"action": "purge", "reason": reason})
            show(chosen.output, body, lambda: print(f"{chosen.run}: purged"))

        work(chosen.url, chosen.token, one)
    chosen.do("purge", reason)


async def _many(api: "Client", action: str, query: dict[str, Any], reason: str, output: Out, *, yes: bool) -> int:
    """Preview, ask, and do it page by page; gives the exit code."""
    asked = {"action": action, "query": query, "reason": reason}
    found = await api.post("/runs/bulk", {**asked, "dry_run": True})
    if output is Out.TEXT:
        _show_preview(found)
        if not found["count"] and "workflow" in query:
            typer.echo(OF_NO_WORKFLOW, err=True)
    if found["count"] and not yes and not await _agreed(action, found, output):
        show(output, found, lambda: None)
        typer.echo(f"nothing was {DONE[action]}: --yes does it", err=True)
        return USAGE
    totals: dict[str, Any] = {"action": action, "count": found["count"], "done": 0, "already": 0, "refused": []}
    cursor: str | None = None
    while found["count"]:
        told = {**asked, "preview": found["preview"], **({"cursor": cursor} if cursor else {})}
        page = await api.post("/runs/bulk", told)
        totals["done"] += page["done"]
        totals["already"] += page["already"]
        totals["refused"] += page["refused"]
        cursor = page["next_cursor"]
        over = totals["done"] + totals["already"] + len(totals["refused"])
        typer.echo(f"{over} of {max(found['count'], over)}", err=True)
        if cursor is None:
            break
    show(output, totals, lambda: _show_totals(totals))
    return FAILED if totals["refused"] else SUCCEEDED


async def _agreed(action: str, found: dict[str, Any], output: Out) -> bool:
    """Ask on a terminal; in a pipe nobody can agree."""
    if output is Out.JSON or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    from headrace.cli.terminal import asked

    answer = await asked(f"{action.capitalize()} {found['count']} run{'' if found['count'] == 1 else 's'}? [y/N] ")
    return answer is not None and answer.lower() in {"y", "yes"}


def _show_preview(found: dict[str, Any]) -> None:
    count = f"{found['count']}{' or more' if found['capped'] else ''} run{'' if found['count'] == 1 else 's'}"
    print(f"{count}, created before {ago(found['before'])}" + (", such as:" if found["examples"] else ""))
    if found["examples"]:
        rows = [(run["id"], run["status"], run["name"], ago(run["created_at"])) for run in found["examples"]]
        show_table(("id", "status", "name", "created"), rows)
    if found.get("already"):  # an api of an older version does not say
        print(f"{found['already']} more {'are' if found['already'] > 1 else 'is'} {ALREADY[found['action']]} already")
    if found.get("unfit"):
        print(f"{found['unfit']} more {'are' if found['unfit'] > 1 else 'is'} left alone: {FOR[found['action']]}")


def _show_totals(totals: dict[str, Any]) -> None:
    refused = totals["refused"]
    if totals["count"]:
        print(f"{totals['done']} {DONE[totals['action']]}, {totals['already']} were already, {len(refused)} refused")
    for each in refused[:REFUSED_SHOWN_MAX]:
        print(f"- {each['id']}: {each['type']}: {each['message']}")
    if len(refused) > REFUSED_SHOWN_MAX:
        print(f"… and {len(refused) - REFUSED_SHOWN_MAX} more (-o json lists all)")


ACTIONS = (cancel, retry, purge)
"""Commands of `headrace runs` that are made here."""
