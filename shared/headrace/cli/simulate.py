"""`headrace simulate`: what a document would do, with nothing performed and nothing leaving the machine."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headrace.cli.exits import FAILED, SUCCEEDED, WAITING
from headrace.cli.inputs import as_declared, declared_in, inputs_of
from headrace.cli.options import (
    Out,
    Output,
    Token,
    Url,
    client,
    found,
    needed,
    pairs,
    read_json,
    read_text,
    show,
    show_table,
)
from headrace.config import from_env
from headrace.errors import NotFoundError, ValidationError
from headrace.plans.durations import duration

if TYPE_CHECKING:
    from headrace.testing.prediction.told import StepTold, Told

EXITS: Final = {"succeeded": SUCCEEDED, "waiting": WAITING}
ARGUMENTS_CHARS_MAX: Final = 70
EFFECTS_SHOWN_MAX: Final = 40
Again = Annotated[list[str] | None, typer.Option()]


def simulate(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A document, YAML or JSON; - is standard input.")],
    single: Annotated[list[str] | None, typer.Option("--input", "-i", help="NAME=VALUE; again for more.")] = None,
    whole: Annotated[str | None, typer.Option("--inputs", help="All inputs as JSON, or @FILE.")] = None,
    stub: Annotated[list[str] | None, typer.Option(help="STEP=JSON or STEP=FILE: what the step's tool gives.")] = None,
    stubs: Annotated[Path | None, typer.Option(help="A YAML or JSON file of results by step.")] = None,
    approve: Annotated[
        list[str] | None, typer.Option(help="STEP whose approval is given (`run`: the whole run's); others stay open.")
    ] = None,
    reject: Annotated[list[str] | None, typer.Option(help="STEP whose approval is refused; `run`: the run's.")] = None,
    fail: Annotated[list[str] | None, typer.Option(help="STEP or STEP=ERROR_TYPE: the step's tool fails.")] = None,
    signal: Annotated[
        list[str] | None, typer.Option(help="NAME=JSON: a signal or event that comes when waited for.")
    ] = None,
    also: Annotated[list[Path] | None, typer.Option(help="A document of a workflow that this one runs.")] = None,
    tools: Annotated[Path | None, typer.Option(help="A Python file with functions marked @headrace.tool.")] = None,
    output: Output = Out.TEXT,
    url: Url = None,
    token: Token = None,
) -> None:
    """Say what a document's run would do: its path, effects, approvals and waits. Nothing is performed, nothing leaves.

    Results are given by --stub or made up from the tools' schemas; people are taken to agree unless --approve or
    --reject say otherwise. STEP may be fix#2 (a round), read[3] (an item), child/build (a step of a child's run).
    Ends with 0 when the run would succeed, 1 when it would fail, 3 when it would stand still.
    """
    from headrace.testing.prediction.predict import missing, predict, tools_needed
    from headrace.testing.prediction.scenario import Scenario
    from headrace.testing.prediction.stubs import tools_here

    text, others = read_text(spec), [read_text(each) for each in also or []]
    scenario = Scenario(
        inputs=as_declared(single or [], inputs_of(single or [], whole), declared_in(text)),
        stubs=_stubs(stub or [], stubs),
        failures=_failures(fail or []),
        approved=None if approve is None else frozenset(approve),
        rejected=frozenset(reject or []),
        signals=_signals(signal or []),
    )
    known: dict[str, Any] = dict(tools_here(_own(tools)))
    absent = tools_needed([text, *others]) - known.keys()
    if absent:
        known |= _fetched(absent, url, token)
        absent -= known.keys()
    if absent:
        raise missing(absent)
    told = predict(text, scenario, known, others)
    import msgspec

    show(output, msgspec.to_builtins(told), lambda: _text(told))
    raise typer.Exit(EXITS.get(told.status, FAILED))


def _own(file: Path | None) -> Sequence[Any]:
    if file is None:
        return ()
    from headrace.worker.files import load_tools

    return load_tools(file)


def _stubs(single: Sequence[str], file: Path | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if file is not None:
        from headrace.specs.source import read_sources

        sources = list(read_sources(read_text(file)))
        value = sources[0].value if len(sources) == 1 else None
        if not isinstance(value, dict):
            message = f"--stubs {file}: expected one mapping of steps to what their tools give"
            raise ValidationError(message)
        told.update(value)
    for name, value in pairs(single, "--stub").items():
        try:
            told[name] = read_json(value, "--stub")
        except ValidationError:
            path = Path(value.removeprefix("@"))
            if not path.is_file():
                message = f"--stub {name}: {value!r} is neither JSON nor a file"
                raise ValidationError(message) from None
            told[name] = read_json(read_text(path), f"--stub {name}")
    return told


def _failures(given: Sequence[str]) -> dict[str, str]:
    from headrace.testing.prediction.scenario import FAILURE

    told = {}
    for each in given:
        name, _, kind = each.partition("=")
        told[name] = kind or FAILURE
    return told


def _signals(given: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    told: dict[str, tuple[Any, ...]] = {}
    for each in given:
        name, equals, value = each.partition("=")
        told[name] = (*told.get(name, ()), read_json(value, f"--signal {name}") if equals else None)
    return told


def _fetched(names: set[str], url: str | None, token: str | None) -> dict[str, Any]:
    """Give the tools that a running stack knows, if one is configured; asked is for these by name, nothing is sent."""
    config = from_env()
    if not (url or config.api_url or found("api", config)):
        return {}
    import asyncio

    import msgspec

    from headrace.events.catalogue import ToolManifest
    from headrace.specs.rates import parse
    from headrace.testing.prediction.stubs import Remote

    async def ask() -> dict[str, Any]:
        from urllib.parse import quote

        told = {}
        async with client(url, token) as api:
            for name in sorted(names):
                try:
                    body = await api.get(f"/tools/{quote(name)}")
                except NotFoundError:
                    continue
                except ValidationError as problem:
                    if problem.type != "tool_not_found":
                        raise
                    continue
                fields = ToolManifest.__struct_fields__
                known = {field: body[field] for field in fields if body.get(field) is not None}
                if "rate_limit" in known:
                    known["rate_limit"] = msgspec.to_builtins(parse(known["rate_limit"]))
                told[name] = Remote(msgspec.convert(known, ToolManifest))
        return told

    return asyncio.run(ask())


# --- text --------------------------------------------------------------------------------------------------------


def _text(told: "Told") -> None:
    print(f"{told.kind} {told.name}: simulated, nothing was performed")
    print(f"plan {told.plan_digest}\n")
    print(_verdict(told))
    print(f"Cost: {told.cost}.\n")
    show_table(
        ("step", "kind", "would be", "items", "rounds", "attempts", "from", "to", "note"), map(_step, told.steps)
    )
    for title, lines in (
        ("Effects, in order", list(_effects(told))),
        (
            "Permissions",
            [f"{e.run}{e.step}: {e.tool} ({e.effect}) needs {', '.join(e.covered_by)}" for e in told.permissions],
        ),
        ("Approvals", list(_approvals(told))),
        ("Waits", list(_waits(told))),
        ("Stands still for", [f"{e.run}{e.step or 'the run'}: {e.message} -> {e.remedy}" for e in told.open]),
        ("On the way", list(_way(told))),
        ("Supposed", told.supposed),
    ):
        if lines:
            print(f"\n{title}:")
            print("\n".join(f"- {line}" for line in lines))


def _verdict(told: "Told") -> str:
    after = f" after {duration(told.virtual_s)} of waiting" if told.virtual_s else ""
    match told.status:
        case "succeeded":
            return f"It would succeed{after}."
        case "waiting":
            return f"It would stand still{after}."
        case "refused":
            return f"The run would be refused: {told.error['type']}: {told.error['message']}" if told.error else ""
        case _:
            why = f": {told.error['type']}: {told.error['message']}" if told.error else "."
            would = "fail" if told.status == "failed" else f"be {told.status}"
            return f"It would {would}{after}{why}{_for_want(told)}"


def _for_want(told: "Told") -> str:
    """Name the results to give, where an expression failed for want of what nobody said."""
    made_up = [f"{step.run}{step.step}" for step in told.steps if step.made_up]
    if told.error is None or told.error["type"] != "expression_error" or not made_up:
        return ""
    return (
        f"\nThat may be for want of real results: give them by {', '.join(f'--stub {name}=JSON' for name in made_up)}."
    )


def _step(step: "StepTold") -> tuple[Any, ...]:
    note = step.reason or (f"{step.error['type']}: {step.error['message']}" if step.error else "")
    note = note or (f"runs {step.child}" if step.child else "") or ("made up" if step.made_up else "")
    items = "" if step.items is None else str(step.items)
    if step.items_failed:
        items += f" ({step.items_failed} fail)"
    began, ended = ("" if at is None else f"+{duration(at)}" for at in (step.began_s, step.ended_s))
    return (
        step.run + step.step,
        step.kind,
        step.status,
        items,
        step.rounds or "",
        step.attempts or "",
        began,
        ended,
        note,
    )


def _effects(told: "Told") -> Iterator[str]:
    from headrace import codec

    for each in told.effects[:EFFECTS_SHOWN_MAX]:
        text = codec.dumps(each.arguments).decode()
        short = text if len(text) <= ARGUMENTS_CHARS_MAX else text[: ARGUMENTS_CHARS_MAX - 1] + "…"
        again = f" (attempt {each.attempt})" if each.attempt > 1 else ""
        yield f"{each.effect:<6} {each.run}{each.step}: {each.tool} {short}{again}"
    if len(told.effects) > EFFECTS_SHOWN_MAX:
        yield f"… and {len(told.effects) - EFFECTS_SHOWN_MAX} more (-o json lists all)"


def _approvals(told: "Told") -> Iterator[str]:
    for each in told.approvals:
        what = (
            f"{each.run}{each.step}"
            if each.step
            else f"{each.run}the whole {'plan' if told.kind == 'ToolPlan' else 'run'}"
        )
        prompt = each.shown.get("prompt") if isinstance(each.shown, dict) else None
        shown = f', shown: "{prompt}"' if prompt else ""
        yield f"{what}: {needed(each.quorum, each.roles)}{shown}; supposed: {each.decision}"


def _waits(told: "Told") -> Iterator[str]:
    for each in told.waits:
        time = "" if each.seconds is None else f" {duration(each.seconds)}"
        name = f" {each.name}" if each.name else ""
        most = " at most" if each.name and time else ""
        given = "; supposed to come" if each.given else ""
        yield f"{each.run}{each.step or 'the run'}: {each.waits_for}{name}{time}{most}{given}"


def _way(told: "Told") -> Iterator[str]:
    from headrace.cli.narrating import sentence

    for each in told.path:
        yield f"+{duration(each.at_s)} {each.run}{sentence(each.type, each.data)}"
