"""`headrace doctor`: what an operator looks at first."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.options import Out, Output, Token, Url, ago, show, show_table, work

if TYPE_CHECKING:
    from headrace.client.client import Client


def doctor(
    dismiss: Annotated[
        list[int] | None,
        typer.Option(metavar="ID", min=1, help="Let a parked message go that was seen to; again for more."),
    ] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Look over everything: parts that do not answer, partitions without an owner, parked messages."""

    async def todo(api: "Client") -> int:
        if dismiss:
            gone = (await api.post("/doctor", {"action": "dismiss", "parked": dismiss}))["dismissed"]
            missing = [str(each) for each in dismiss if each not in gone]
            if missing:
                typer.echo(f"no message is parked under {', '.join(missing)}", err=True)
        body = await api.get("/doctor")
        show(output, body, lambda: _text(body))
        return 0 if body["healthy"] else 1

    work(url, token, todo)


def _text(body: dict[str, Any]) -> None:
    for name, well in sorted(body["checks"].items()):
        print(f"{name}: {'well' if well else 'NOT WELL' if name == 'streams' else 'DOES NOT ANSWER'}")
    print(f"workers: {'active' if body['workers_active'] else 'none'}")
    owners: dict[tuple[str, str], int] = {}
    for row in body["partitions"]:
        place = (row["log"], str(row["owner"] or "nobody"))
        owners[place] = owners.get(place, 0) + 1
    print()
    show_table(("log", "owner", "partitions"), [(*place, count) for place, count in sorted(owners.items())])
    if body["parked"]:
        print()
        rows = [
            (item["id"], item["source"], ago(item["at"]), item["error"], item["body_preview"][:80])
            for item in body["parked"]
        ]
        show_table(("parked", "from", "at", "error", "body"), rows)
    if body["stragglers"]:
        print()
        held = [(each["month"], each["log"], each["stream_id"], each["status"]) for each in body["stragglers"]]
        show_table(("old month", "log", "held by", "status"), held)
    print()
    print("healthy" if body["healthy"] else "\n".join(f"- {problem}" for problem in body["problems"]))
