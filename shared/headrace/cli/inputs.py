"""Inputs on the command line: `--inputs` JSON and `--input NAME=VALUE`, where text stays text if the document says so."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace import received
from headrace.cli.options import pairs, read_json, read_text
from headrace.errors import NotFoundError, ValidationError

if TYPE_CHECKING:
    from headrace.client.client import Client


def inputs_of(single: list[str], whole: str | None, option: str = "--input") -> dict[str, Any]:
    """Read inputs: `--inputs` JSON, then those of `option` (`k=v`) over it; a value that is JSON is read as such, else as text."""
    told: dict[str, Any] = {}
    if whole is not None:
        read = read_json(read_text(Path(whole[1:])) if whole.startswith("@") else whole, "--inputs")
        if not isinstance(read, dict):
            message = "--inputs must be a JSON object"
            raise ValidationError(message)
        told.update(read)
    for name, value in pairs(single, option).items():
        told[name] = _value(value, f"{option} {name}")
    return told


def _value(text: str, what: str) -> Any:
    """Read JSON as such and any other text as text; raises ValidationError for JSON that says a thing twice."""
    if text in received.CONSTANTS:
        return text
    try:
        return received.loads(text)
    except ValidationError as problem:
        message = f"{what}: {problem.message}"
        raise ValidationError(message) from problem
    except (ValueError, RecursionError):
        return text


def as_declared(single: list[str], inputs: dict[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Give the inputs with those as they were written that are declared as strings: `-i path=404` is no number then."""
    written = pairs(single, "--input")
    texts = {
        name: text
        for name, text in written.items()
        if _is_text(declared.get(name)) and not isinstance(inputs[name], str)
    }
    return {**inputs, **texts}


def may_be_text(single: list[str], inputs: dict[str, Any]) -> bool:
    """Tell whether any value was read as something other than the text that was written."""
    return any(not isinstance(inputs[name], str) for name in pairs(single, "--input"))


def declared_in(text: str) -> Mapping[str, Any]:
    """Give what a document says of its inputs; nothing for one that cannot be read, of which its judge says why."""
    from headrace.specs.documents import read_spec

    try:
        return _inputs(read_spec(text))
    except ValidationError:
        return {}


async def declared_of(api: "Client", told: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give what a document, a workflow or a recorded plan says of its inputs; nothing where the run will be refused."""
    if "spec" in told:
        return declared_in(str(told["spec"]))
    try:
        if "workflow" in told:
            return _inputs((await api.get(f"/workflows/{quote(str(told['workflow']))}"))["spec"])
        plan: Mapping[str, Any] = (await api.plan(str(told["plan_digest"])))["plan"]
        return plan.get("inputs") or {}
    except NotFoundError:
        return {}


def _inputs(document: Mapping[str, Any]) -> Mapping[str, Any]:
    body = document.get("spec")
    given = body.get("inputs") if isinstance(body, Mapping) else None
    return given if isinstance(given, Mapping) else {}


def _is_text(declared: object) -> bool:
    kind = declared.get("type") if isinstance(declared, Mapping) else declared
    return kind == "string"
