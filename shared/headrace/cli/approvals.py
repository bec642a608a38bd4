"""Approvals: list, show, decide."""

from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.options import Out, Output, Token, Url, ago, needed, show, show_json, show_table, so_far, work
from headrace.vocabulary import ApprovalStatus

if TYPE_CHECKING:
    from headrace.client.client import Client

app = typer.Typer(no_args_is_help=True, help="Approvals: list, show, approve, reject.")
ApprovalId = Annotated[str, typer.Argument(metavar="APPROVAL", help="The id of an approval.")]
Digest = Annotated[str | None, typer.Option("--digest", help="Decide on this digest instead of that of what is shown.")]
Why = Annotated[str, typer.Option(help="Why; it is kept with the decision.")]


@app.command("list")
def list_(
    status: Annotated[str, typer.Option(help="pending, approved, rejected, expired, superseded, or all.")] = "pending",
    run: Annotated[str | None, typer.Option(help="Only those of this run.")] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """List approvals, the newest first."""

    async def todo(api: "Client") -> None:
        wanted = None if status == "all" else status
        items = [item async for item in api.pages("/approvals", status=wanted, run_id=run)]

        def text() -> None:
            columns = ("id", "status", "of", "step", "requester", "needs", "created")
            rows = [
                (
                    item["id"],
                    item["status"],
                    item["subject"],
                    item["step"],
                    item["requester"]["name"],
                    needed(item["quorum"], item["roles"]) + so_far(item["quorum"], item["decisions"]),
                    ago(item["created_at"]),
                )
                for item in items
            ]
            show_table(columns, rows)

        show(output, {"items": items, "next_cursor": None}, text)

    work(url, token, todo)


@app.command("show")
def show_(approval: ApprovalId, output: Output = Out.TEXT, url: Url = None, token: Token = None) -> None:
    """Show exactly what is decided on, and its digest."""

    async def todo(api: "Client") -> None:
        from headrace.cli.following import show_approval

        if output is Out.JSON:
            show_json(await api.get(f"/approvals/{approval}"))
        else:
            show_approval(await api.approval(approval))

    work(url, token, todo)


def _decide(
    action: str, approval: str, digest: str | None, reason: str, output: Out, url: str | None, token: str | None
) -> None:
    async def todo(api: "Client") -> None:
        from headrace.cli.following import show_approval

        known = await api.approval(approval)
        if output is Out.TEXT:
            show_approval(known)
        decided = await api.decide(known, action, reason=reason, shown_digest=digest)
        body = await api.get(f"/approvals/{decided.id}")
        more = f": {needed(body['quorum'], body['roles'])} must approve{so_far(body['quorum'], body['decisions'])}"
        show(
            output,
            body,
            lambda: print(f"{decided.id}: {decided.status}{more if decided.status == ApprovalStatus.PENDING else ''}"),
        )

    work(url, token, todo)


@app.command()
def approve(
    approval: ApprovalId,
    digest: Digest = None,
    reason: Why = "",
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Approve exactly what is shown; its digest is computed here."""
    _decide("approve", approval, digest, reason, output, url, token)


@app.command()
def reject(
    approval: ApprovalId,
    digest: Digest = None,
    reason: Why = "",
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Reject what is shown."""
    _decide("reject", approval, digest, reason, output, url, token)
