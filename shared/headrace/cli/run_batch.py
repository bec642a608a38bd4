"""`headrace runs create`: a run for each line of a file, many in one request."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headrace.cli.exits import FAILED, SUCCEEDED
from headrace.cli.options import Out, Output, Token, Url, pairs, read_json, read_text, show_json, work
from headrace.cli.running import what
from headrace.errors import MissingArgumentError, ValidationError

if TYPE_CHECKING:
    from headrace.client.client import Client

BATCH: Final = 500
"""Runs of one request."""


def create(
    source: Annotated[str, typer.Argument(metavar="FILE|WORKFLOW|DIGEST", help="What to run.")],
    each: Annotated[Path, typer.Argument(metavar="LINES", help="Inputs, a JSON object a line; - reads stdin.")],
    subject: Annotated[str | None, typer.Option(help="What the runs are about.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; again for more.")] = None,
    priority: Annotated[int | None, typer.Option(help="-100 to 100, higher first; else the document's.")] = None,
    key: Annotated[str | None, typer.Option(help="The same key and lines meet the same runs.")] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Create a run for each line of inputs, and print their ids in that order.

    Ends with 1 when a run was refused; the others are there.
    """
    told, inputs = what(source), _lines(each)
    about = {"subject": subject, "labels": pairs(label or [], "--label"), "priority": priority}

    async def todo(api: "Client") -> int:
        shared = {**about, **(await _recorded(api, told))}
        items: list[dict[str, Any]] = []
        for first in range(0, len(inputs), BATCH):
            some = [{**shared, "inputs": one} for _, one in inputs[first : first + BATCH]]
            items += await api.create_runs(some, key=f"{key}/{first}" if key else None)
        paired = zip(inputs, items, strict=True)
        refused = [(number, item["error"]) for (number, _), item in paired if "error" in item]
        if output is Out.JSON:
            show_json({"items": items, "created": len(items) - len(refused), "refused": len(refused)})
            return FAILED if refused else SUCCEEDED
        for item in items:
            if "error" not in item:
                print(item["id"])
        for number, error in refused:
            typer.echo(f"line {number}: {error['type']}: {error['message']}", err=True)
        return FAILED if refused else SUCCEEDED

    work(url, token, todo)


async def _recorded(api: "Client", told: dict[str, Any]) -> dict[str, Any]:
    """Compile a document once for all lines."""
    return {"plan_digest": (await api.record_plan(told["spec"]))["digest"]} if "spec" in told else told


def _lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        value = read_json(line, f"line {number}")
        if not isinstance(value, dict):
            message = f"line {number} must be a JSON object of inputs"
            raise ValidationError(message)
        found.append((number, value))
    if not found:
        message = f"{path} has no line of inputs"
        raise MissingArgumentError(message)
    return found


ACTIONS: Final = (create,)
