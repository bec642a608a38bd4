"""Connections of integrations: set, list, delete."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.options import Out, Output, Token, Url, ago, pairs, read_json, show, show_table, work
from headrace.errors import ValidationError

if TYPE_CHECKING:
    from headrace.client.client import Client

app = typer.Typer(no_args_is_help=True, help="Connections of integrations: set, list, delete.")
Name = Annotated[str, typer.Argument(help="The connection; the integration's name, unless there are several.")]


@app.command("set")
def set_(
    name: Name,
    integration: Annotated[str | None, typer.Option(help="The integration, when it is not the name.")] = None,
    setting: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; a value that is JSON is read as such.")] = None,
    secret: Annotated[
        list[str] | None, typer.Option(help="NAME=REFERENCE, such as token=env:GITHUB_TOKEN; never the secret.")
    ] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Connect an integration, with references to its secrets."""
    settings = {key: _value(value) for key, value in pairs(setting or [], "--setting").items()}
    secrets = pairs(secret or [], "--secret")

    async def todo(api: "Client") -> None:
        try:
            body = await api.save_connection(name, integration or name, settings=settings, secrets=secrets)
        except ValidationError as problem:
            if integration is None and problem.details.get("field") == "integration":
                problem.message += " -> say which it is by --integration"
            raise
        show(output, body, lambda: print(f"{name}: {body['status']}"))

    work(url, token, todo)


def _value(text: str) -> Any:
    """Read a value that is JSON as such, any other as text (`100/1m`); one that begins like JSON and is none is refused."""
    try:
        return read_json(text, "--setting")
    except ValidationError:
        if text[:1] and text[:1] in '{["':
            raise
        return text


@app.command("list")
def list_(output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """List connections; of their secrets only the names."""

    async def todo(api: "Client") -> None:
        items = [item async for item in api.pages("/connections")]

        def text() -> None:
            rows = [
                (item["name"], item["integration"], item["status"], ", ".join(item["secrets"]), ago(item["updated_at"]))
                for item in items
            ]
            show_table(("name", "integration", "status", "secrets", "updated"), rows)

        show(output, {"items": items, "next_cursor": None}, text)

    work(url, token, todo)


@app.command()
def delete(name: Name, output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """Take a connection away."""

    async def todo(api: "Client") -> None:
        await api.delete_connection(name)
        show(output, {"name": name, "deleted": True}, lambda: print(f"{name}: deleted"))

    work(url, token, todo)
