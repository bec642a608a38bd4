"""What every command shares: options, where the api and the token are, how to print, and running async work."""

import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from headrace import codec, received
from headrace.config import Config, address, from_env
from headrace.errors import ValidationError

if TYPE_CHECKING:
    from headrace.client.client import Client

DATA_DIR = ".headrace"
WORDS = {"True": "yes", "False": "no"}
"""How a table says what is true."""


OF_NO_WORKFLOW = "runs of a document that was never applied belong to no workflow: find them by status or label"


class Out(StrEnum):
    """How to print."""

    TEXT = "text"
    JSON = "json"


Token = Annotated[
    str | None, typer.Option("--token", help="Access token; else HEADRACE_TOKEN, else .headrace/token here or above.")
]
Url = Annotated[
    str | None, typer.Option("--url", help="Address of the api; else HEADRACE_API_URL, else .headrace/api.")
]
Output = Annotated[Out, typer.Option("-o", "--output", help="text, or json for programs.")]


def above(name: str, config: Config) -> Path | None:
    """Find a file of the data folder: the configured one, else `.headrace` here or above."""
    candidates = [config.data_dir / name]
    here = Path.cwd()
    candidates.extend(folder / DATA_DIR / name for folder in (here, *here.parents))
    return next((path for path in candidates if path.is_file()), None)


def found(name: str, config: Config) -> str | None:
    """Read a one-line file of the data folder; None when there is none."""
    path = above(name, config)
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError as problem:
        message = f"{path} cannot be read: {problem.strerror}"
        raise ValidationError(message) from problem


def client(url: str | None, token: str | None) -> "Client":
    """Make the client that a command works with."""
    from headrace.client.client import Client

    config = from_env()
    where = address(url, "--url") if url else config.api_url or found("api", config) or config.base_url
    return Client(where, token or config.token or found("token", config))


def work(url: str | None, token: str | None, todo: Callable[["Client"], Awaitable[int | None]]) -> NoReturn:
    """Run async work with a client, and end with the exit code it gives."""

    async def whole() -> int:
        async with client(url, token) as api:
            return await todo(api) or 0

    raise typer.Exit(awaited(whole()))


def awaited[T](work: Coroutine[Any, Any, T]) -> T:
    """Run async work to its end. `asyncio` is loaded here: who asks for help waits for no event loop."""
    import asyncio

    return asyncio.run(work)


def show_json(value: object) -> None:
    """Print JSON for programs: one document, indented."""
    import msgspec

    print(msgspec.json.format(codec.dumps(value), indent=2).decode())


def body_shown(body: bytes) -> None:
    """Print a kept body as it is, JSON or not; on a terminal with a line's end after it."""
    sys.stdout.buffer.write(body)
    if sys.stdout.isatty() and not body.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table: with Rich on a terminal, else plain columns that other programs can cut."""
    shown = [["" if cell is None else WORDS.get(str(cell), str(cell)) for cell in row] for row in rows]
    if not shown:
        print("(none)", file=sys.stderr, flush=True)
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in shown:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    widths = [max([len(column), *(len(row[place]) for row in shown)]) for place, column in enumerate(columns)]
    for row in [[column.upper() for column in columns], *shown]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show(output: Out, value: Any, text: Callable[[], None]) -> None:
    """Print a value as JSON, or by `text`."""
    if output is Out.JSON:
        show_json(value)
    else:
        text()


def show_fields(fields: Sequence[tuple[str, Any]]) -> None:
    """Print named values, one a line; what is not set is left out."""
    known = [(name, value) for name, value in fields if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        text = value if isinstance(value, str) else codec.dumps(value).decode()
        print(f"{name.ljust(width)}  {text}")


def read_json(text: str, what: str) -> Any:
    """Read JSON given on the command line; raises ValidationError naming the option."""
    try:
        return received.loads(text)
    except ValidationError as problem:
        message = f"{what}: {problem.message}"
        raise ValidationError(message) from problem
    except (ValueError, RecursionError) as problem:
        message = f"{what}: not JSON: {problem}"
        raise ValidationError(message) from problem


def read_text(file: Path) -> str:
    """Read a document; `-` is standard input. Raises ValidationError."""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is no UTF-8 text"
        message = f"{file} cannot be read: {reason}"
        raise ValidationError(message) from problem


def pairs(given: Sequence[str], what: str) -> dict[str, str]:
    """Read `name=value` options; raises ValidationError."""
    told: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            message = f"{what} {each!r} must be NAME=VALUE"
            raise ValidationError(message)
        if told.setdefault(name, value) != value:
            message = f"{what} {name} is given twice, as {told[name]!r} and {value!r}: keep one"
            raise ValidationError(message)
    return told


def needed(quorum: int, roles: Sequence[str]) -> str:
    """Say how many of whom must approve: `1 approver`, `2 people with the role approver or legal`."""
    several = f" {'person' if quorum == 1 else 'people'} with the role" if quorum > 1 or len(roles) > 1 else ""
    return f"{quorum}{several} {' or '.join(roles)}"


def so_far(quorum: int, decisions: Sequence[Mapping[str, Any]]) -> str:
    """Say how many of several have approved, and who; nothing where one decides or nobody has."""
    names = [str(decision.get("name")) for decision in decisions if decision.get("action") == "approve"]
    return f", {len(names)} of them so far ({', '.join(names)})" if quorum > 1 and names else ""


def ago(at: str | None) -> str:
    """Shorten an RFC 3339 time for a table."""
    return at[:19].replace("T", " ") if at else ""
