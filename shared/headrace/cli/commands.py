"""Every command, by name: a command line loads the modules of the command that it names, and `--help` all of them."""

from importlib import import_module
from typing import Annotated, Any, Final

import typer

from headrace import __version__

COMMANDS: Final = {
    **dict.fromkeys(("up", "demo", "serve", "worker"), "stack"),
    **dict.fromkeys(("validate", "plan"), "documents"),
    "simulate": "simulate",
    **dict.fromkeys(("apply", "authorize", "schema"), "documents"),
    **dict.fromkeys(("get", "tools"), "getting"),
    **dict.fromkeys(("run", "trigger"), "running"),
    "doctor": "doctor",
}
"""The module of each command, whose function has the command's name; in the order in which help shows them."""
GROUPS: Final = {
    "runs": ("runs", "run_batch", "run_actions", "run_bulk"),
    "approvals": ("approvals",),
    "tokens": ("tokens",),
    "workers": ("workers",),
    "connections": ("connections",),
    "db": ("database",),
}
"""The modules of each group: the first has its `app`, the others more `ACTIONS` for it."""


def app(first: str = "") -> typer.Typer:
    """Give the commands that a line beginning with `first` may mean: one command or group, else all there are."""
    whole = typer.Typer(
        name="headrace",
        help="Specs become plans, plans are approved and run, every fact is kept. Exit code: 0 succeeded, 1 failed, 2 usage, 3 waiting.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",  # paragraphs of help are filled to the terminal's width
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    whole.callback()(_options)
    known = first in COMMANDS or first in GROUPS
    for name, module in COMMANDS.items():
        if name == first or not known:
            whole.command()(getattr(_module(module), name))
    for name, modules in GROUPS.items():
        if name == first or not known:
            whole.add_typer(_group(*modules), name=name)
    return whole


def _group(first: str, *others: str) -> typer.Typer:
    """Give a group of commands, with what other modules add to it."""
    group: typer.Typer = _module(first).app
    known = {command.callback for command in group.registered_commands}
    for other in others:
        for action in _module(other).ACTIONS:
            if action not in known:  # the group is its module's, which may have been asked for before
                group.command()(action)
    return group


def _module(name: str) -> Any:
    return import_module(f"headrace.cli.{name}")


def _version(*, asked: bool) -> None:
    if asked:
        print(f"headrace {__version__}")
        raise typer.Exit


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
