"""Access tokens: create, list, revoke."""

from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.options import Out, Output, Token, Url, ago, show, show_table, work
from headrace.vocabulary import Role

if TYPE_CHECKING:
    from headrace.client.client import Client

app = typer.Typer(no_args_is_help=True, help="Access tokens: create, list, revoke.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose token it is.")],
    role: Annotated[list[Role], typer.Option(help="viewer, operator, approver or admin; again for more.")],
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Make a token and print it, this once: only a hash of it is kept."""

    async def todo(api: "Client") -> None:
        made = await api.create_token(name, [each.value for each in role])
        show(output, made, lambda: print(made["token"]))

    work(url, token, todo)


@app.command("list")
def list_(output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """List tokens; their secrets are not kept."""

    async def todo(api: "Client") -> None:
        items = [item async for item in api.pages("/tokens")]

        def text() -> None:
            rows = [
                (item["id"], item["name"], ", ".join(item["roles"]), ago(item["created_at"]), ago(item["revoked_at"]))
                for item in items
            ]
            show_table(("id", "name", "roles", "created", "revoked"), rows)

        show(output, {"items": items, "next_cursor": None}, text)

    work(url, token, todo)


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="The id of a token (tok_…).")],
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Make a token worthless, at once and for ever."""

    async def todo(api: "Client") -> None:
        body = await api.revoke_token(token_id)
        show(output, body, lambda: print(f"{token_id}: revoked"))

    work(url, token, todo)
