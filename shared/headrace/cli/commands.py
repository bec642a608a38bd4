"""Every command, by name."""

from typing import Annotated

import typer

from headrace import __version__
from headrace.cli import (
    approvals,
    connections,
    database,
    doctor,
    documents,
    getting,
    run_actions,
    run_batch,
    run_bulk,
    running,
    runs,
    simulate,
    stack,
    tokens,
    workers,
)

app = typer.Typer(
    name="headrace",
    help="Specs become plans, plans are approved and run, every fact is kept. Exit code: 0 succeeded, 1 failed, 2 usage, 3 waiting.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(*, asked: bool) -> None:
    if asked:
        print(f"headrace {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=lambda asked: _version(asked=asked), is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


for _command in (
    stack.up,
    stack.demo,
    stack.serve,
    stack.worker,
    documents.validate,
    documents.plan,
    simulate.simulate,
    documents.apply,
    documents.authorize,
    documents.schema,
    getting.get,
    getting.tools,
    running.run,
    running.trigger,
    doctor.doctor,
):
    app.command()(_command)
for _action in (*run_batch.ACTIONS, *run_actions.ACTIONS, *run_bulk.ACTIONS):
    runs.app.command()(_action)
for _name, _group in (
    ("runs", runs.app),
    ("approvals", approvals.app),
    ("tokens", tokens.app),
    ("workers", workers.app),
    ("connections", connections.app),
    ("db", database.app),
):
    app.add_typer(_group, name=_name)
