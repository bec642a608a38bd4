"""`headrace run` and `headrace trigger`: start something, and follow it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.documents import SUFFIXES
from headrace.cli.inputs import as_declared, declared_of, inputs_of, may_be_text
from headrace.cli.options import Out, Output, Token, Url, pairs, read_json, read_text, show, show_json, work
from headrace.errors import ValidationError

if TYPE_CHECKING:
    from headrace.client.client import Client


def what(source: str) -> dict[str, Any]:
    """Tell what a word on the command line means: a plan's digest, a file, or a workflow's name."""
    if source.startswith("sha256:"):
        return {"plan_digest": source}
    path = Path(source)
    if source == "-" or path.is_file():
        return {"spec": read_text(path)}
    if path.suffix in SUFFIXES:
        message = f"there is no file {source}"
        raise ValidationError(message)
    return {"workflow": source}


def run(
    source: Annotated[str, typer.Argument(metavar="FILE|WORKFLOW|DIGEST", help="What to run.")],
    single: Annotated[list[str] | None, typer.Option("--input", "-i", help="NAME=VALUE; again for more.")] = None,
    whole: Annotated[str | None, typer.Option("--inputs", help="All inputs as JSON, or @FILE.")] = None,
    subject: Annotated[str | None, typer.Option(help="What the run is about.")] = None,
    stage: Annotated[str | None, typer.Option(help="The subject's stage.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; again for more.")] = None,
    priority: Annotated[int | None, typer.Option(help="-100 to 100, higher first; else the document's.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency-Key: the same key meets the same run.")] = None,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait on, also while only somebody else can move it.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the run's id and do not follow it.")] = False,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Run a document, a workflow or a recorded plan, and follow it to its end.

    Ends with 0 when the run succeeded, 1 when it failed, 3 when it waits for somebody.

    Example: headrace run hello.yaml -i root=docs
    """
    told = what(source)
    inputs, labels = inputs_of(single or [], whole), pairs(label or [], "--label")

    async def todo(api: "Client") -> int:
        from headrace.cli.following import follow

        about: dict[str, Any] = {"subject": subject, "stage": stage, "labels": labels, "priority": priority}
        typed = inputs
        if single and may_be_text(single, inputs):
            typed = as_declared(single, inputs, await declared_of(api, told))
        made = await api.create_run(**told, inputs=typed, **about, key=key)
        if not made.workers_active and output is Out.TEXT:
            typer.echo(
                f"no worker takes its work yet: it goes on when one joins; `headrace runs explain {made.id}`", err=True
            )
        if detach:
            show(output, await api.get(f"/runs/{made.id}"), lambda: print(made.id))
            return 0
        code = await follow(api, made.id, wait=wait, quiet=output is Out.JSON)
        if output is Out.JSON:
            show_json(await api.get(f"/runs/{made.id}"))
        else:
            await _ending(api, made.id)
        return code

    work(url, token, todo)


async def _ending(api: "Client", run_id: str) -> None:
    from headrace import codec

    last = await api.run(run_id)
    if last.error:
        typer.echo(f"{last.error.type}: {last.error.message}", err=True)
    if last.over and last.outputs is not None:
        print(codec.dumps(last.outputs).decode())


def _declares(workflow: Mapping[str, Any], name: str) -> bool:
    return any(name in {each.get("event"), each.get("name")} for each in workflow["triggers"])


def trigger(
    name: Annotated[str, typer.Argument(help="The name that workflows declare in their triggers.")],
    data: Annotated[str, typer.Option(help="The event, as JSON, or @FILE.")] = "null",
    key: Annotated[str | None, typer.Option(help="The message's id: a repeat meets the same runs.")] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Publish a trigger event: a run of each workflow that declares its name.

    Example: headrace trigger pushed --data '{"branch": "main"}'
    """
    payload = read_json(read_text(Path(data[1:])) if data.startswith("@") else data, "--data")

    async def todo(api: "Client") -> None:
        body = await api.trigger(name, payload, key=key)
        show(output, body, lambda: print(f"published {name} as {body['message_id']}"))
        if output is Out.TEXT and not [each async for each in api.pages("/workflows") if _declares(each, name)]:
            typer.echo(f"no workflow declares {name!r} in its triggers: only runs that wait for it hear it", err=True)

    work(url, token, todo)
