"""Documents: judge them offline, compile, compare, keep, and have their plans authorised."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from headrace.cli.exits import USAGE
from headrace.cli.options import Out, Output, Token, Url, read_text, show, show_fields, show_json, work

if TYPE_CHECKING:
    from headrace.client.client import Client

SUFFIXES = {".yaml", ".yml", ".json"}
Source = Annotated[
    str,
    typer.Argument(
        metavar="FILE|WORKFLOW|DIGEST", help="A document, a workflow's newest version, or a recorded plan's digest."
    ),
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A document, YAML or JSON; - is standard input.")]


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Documents; - is standard input.")],
    output: Output = Out.TEXT,
) -> None:
    """Judge documents offline and list every problem with its line and column."""
    from headrace.cli.problems import line

    problems = [{"file": str(file), **problem} for file in files for problem in _problems(read_text(file))]

    def text() -> None:
        for problem in problems:
            print(line(problem, problem["file"]))
        if not problems:
            print(f"{', '.join(str(file) for file in files)}: ok (tools are checked when it is compiled)")

    show(output, {"valid": not problems, "problems": problems}, text)
    raise typer.Exit(USAGE if problems else 0)


def _problems(text: str) -> list[dict[str, Any]]:
    from headrace.errors import ValidationError
    from headrace.specs.check import validate as judge
    from headrace.specs.documents import read

    try:
        return [problem.as_dict() for document in read(text) for problem in judge(document)]
    except ValidationError as problem:
        return list(problem.details.get("problems") or [{"message": problem.message}])


def is_digest(text: str) -> bool:
    """Tell a plan's digest from a file's name."""
    return text.startswith("sha256:") and not Path(text).exists()


def is_name(text: str) -> bool:
    """Tell a workflow's name from a file: there is no such file, and it does not look like one."""
    path = Path(text)
    return text != "-" and len(path.parts) == 1 and path.suffix not in SUFFIXES and not path.is_file()


async def recorded(api: "Client", source: str) -> dict[str, Any]:
    """Give the plan of a digest or of a workflow's newest version, or compile a file and record its plan."""
    if is_digest(source):
        return await api.plan(source)
    if is_name(source):
        return await api.plan((await api.get(f"/workflows/{quote(source)}"))["plan_digest"])
    return await api.record_plan(read_text(Path(source)))


def plan(
    source: Source,
    diff: Annotated[str | None, typer.Option(help="Show what differs from this document, workflow or digest.")] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show exactly what would run: steps, tools, effects, access, pools, and what needs whose approval."""

    async def todo(api: "Client") -> None:
        from headrace.cli.planned import show_diff, show_plan

        body = await recorded(api, source)
        if diff is None:
            show(output, body, lambda: show_plan(body))
            return
        show_diff(await recorded(api, diff), body, output)

    work(url, token, todo)


def apply(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...", show_default=False, help="Documents, kept in this order; - is standard input."
        ),
    ] = None,
    given: Annotated[list[Path] | None, typer.Option("-f", "--file", help="The same, as an option.")] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Keep each document as the newest version of its name; again without a change: nothing happens.

    Example: headrace apply hello.yaml, then headrace run hello
    """
    from headrace.cli.problems import FILE
    from headrace.errors import HeadraceError, MissingArgumentError

    sources = [*(files or []), *(given or [])]
    if not sources:
        message = "name a document: headrace apply FILE"
        raise MissingArgumentError(message)

    async def todo(api: "Client") -> None:
        kept = []
        for source, text in [(each, read_text(each)) for each in sources]:
            try:
                body = await api.apply(text)
            except HeadraceError as problem:
                if len(sources) > 1:
                    problem.details = {**problem.details, FILE: str(source)}
                raise
            kept.append(body)
            if output is Out.TEXT:
                print(
                    f"{body['kind']} {body['name']}: version {body['version']}, plan {body['plan_digest']}", flush=True
                )
        if output is Out.JSON:
            show_json(kept[0] if len(kept) == 1 else {"items": kept, "next_cursor": None})

    work(url, token, todo)


def authorize(
    source: Source,
    role: Annotated[list[str] | None, typer.Option(help="Who may approve; again for more.")] = None,
    quorum: Annotated[int, typer.Option(min=1, help="How many must.")] = 1,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Ask that a plan be authorised for every run of it."""

    async def todo(api: "Client") -> None:
        digest = (await recorded(api, source))["digest"]
        body = await api.request_authorization(digest, roles=role or ["approver"], quorum=quorum)
        fields = [("plan", digest), ("authorization", body["status"]), ("approval", body["approval_id"])]
        show(output, {"plan_digest": digest, **body}, lambda: show_fields(fields))

    work(url, token, todo)


def schema(
    kind: Annotated[str | None, typer.Argument(help="Workflow, ToolPlan or Dashboard; all without one.")] = None,
) -> None:
    """Print the JSON Schema of documents, for editors and other programs."""
    from headrace.errors import ValidationError
    from headrace.specs.schema import schema as schemas

    known = schemas()
    if kind is None:
        show_json(known)
        return
    named = {name.lower(): body for name, body in known.items()}
    if kind.lower() not in named:
        message = f"there is no kind {kind!r}; known are: {', '.join(known)}"
        raise ValidationError(message)
    show_json(named[kind.lower()])
