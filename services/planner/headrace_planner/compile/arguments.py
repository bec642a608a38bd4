"""Checking a tool's arguments against its input schema, as far as they are constant (pure).

The schemas are those that pydantic writes (JSON Schema 2020-12); of them the words that say what a value must be are
read here, and the worker validates the whole again before it performs. A value that depends on a run is not judged.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from headrace.errors import MissingArgumentError, StepError, ValidationError
from headrace.expressions.functions import type_name
from headrace.expressions.near import hint
from headrace.expressions.template import OPEN, template
from headrace.specs.problems import Path

WRONG: Final = ValidationError.type
MISSING: Final = MissingArgumentError.type
REFS_MAX: Final = 50

Said = tuple[Path, str, str]
"""Where below the arguments, what, and the type of the error."""


class Unknown:
    """A value that only a run knows."""


UNKNOWN: Final = Unknown()
BOUNDS: Final[dict[str, tuple[str, Callable[[Any, Any], bool]]]] = {
    "minimum": ("at least", operator.ge),
    "maximum": ("at most", operator.le),
    "exclusiveMinimum": ("more than", operator.gt),
    "exclusiveMaximum": ("less than", operator.lt),
}


def argument_problems(tool: str, schema: Mapping[str, Any], arguments: Mapping[str, Any], path: Path) -> Iterator[Said]:
    """Say what is wrong with the arguments of a tool."""
    properties = schema.get("properties") or {}
    for name in schema.get("required") or ():
        if name not in arguments:
            yield path, f"{tool} needs the argument {name!r}", MISSING
    for name, value in arguments.items():
        place = (*path, name)
        if name in properties:
            yield from _problems(properties[name], constant(value), place, schema)
        elif not schema.get("additionalProperties"):
            yield place, f"{tool} has no argument {name!r}{hint(name, properties)}", WRONG


def value_problems(schema: Mapping[str, Any], value: Any, path: Path) -> Iterator[Said]:
    """Say what is wrong with a value that a schema describes."""
    yield from _problems(schema, value, path, schema)


def constant(value: Any) -> Any:
    """Give a template's value as far as it is constant; UNKNOWN stands for the rest."""
    match value:
        case str() if OPEN in value:
            try:
                read = template(value)
                return read.resolve() if read.constant else UNKNOWN
            except (StepError, ValidationError):
                return UNKNOWN  # validation names this mistake already
        case list():
            return [constant(item) for item in value]
        case dict():
            return {key: constant(item) for key, item in value.items()}
        case _:
            return value


def _problems(schema: Any, value: Any, path: Path, root: Mapping[str, Any]) -> Iterator[Said]:
    schema = _resolved(schema, root)
    if isinstance(value, Unknown) or not isinstance(schema, dict):
        return
    for word in ("anyOf", "oneOf"):
        choices = schema.get(word)
        if choices and all(any(True for _ in _problems(choice, value, path, root)) for choice in choices):
            wanted = " or ".join(dict.fromkeys(_described(_resolved(choice, root)) for choice in choices))
            yield path, f"{_name(path)} must be {wanted}, not {_shown(value)}", WRONG
    for part in schema.get("allOf") or ():
        yield from _problems(part, value, path, root)
    if "const" in schema and value != schema["const"]:
        yield path, f"{_name(path)} must be {schema['const']!r}, not {_shown(value)}", WRONG
    if "enum" in schema and value not in schema["enum"]:
        allowed = [str(one) for one in schema["enum"]]
        yield path, f"{_name(path)} must be one of {', '.join(allowed)}, not {_shown(value)}", WRONG
    if "type" in schema and not _is_type(value, schema["type"]):
        yield path, f"{_name(path)} must be {_described(schema)}, not {_shown(value)}", WRONG
        return
    yield from _limits(schema, value, path)
    if isinstance(value, dict):
        yield from _object(schema, value, path, root)
    elif isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from _problems(schema["items"], item, (*path, number), root)


def _object(schema: dict[str, Any], value: dict[str, Any], path: Path, root: Mapping[str, Any]) -> Iterator[Said]:
    properties = schema.get("properties") or {}
    for name in schema.get("required") or ():
        if name not in value:
            yield path, f"{_name(path)} needs {name!r}", MISSING
    rest = schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in properties:
            yield from _problems(properties[name], item, (*path, name), root)
        elif rest is False:
            yield (*path, name), f"unknown field {name!r}{hint(name, properties)}", WRONG
        else:
            yield from _problems(rest, item, (*path, name), root)


def _limits(schema: dict[str, Any], value: Any, path: Path) -> Iterator[Said]:
    if isinstance(value, str | list):
        what = "characters" if isinstance(value, str) else "elements"
        least = schema.get("minLength" if isinstance(value, str) else "minItems", 0)
        most = schema.get("maxLength" if isinstance(value, str) else "maxItems")
        if len(value) < least:
            said = "must not be empty" if least == 1 else f"needs at least {least} {what}"
            yield path, f"{_name(path)} {said}", WRONG
        if most is not None and len(value) > most:
            yield path, f"{_name(path)} may have at most {most} {what}", WRONG
    elif isinstance(value, int | float) and not isinstance(value, bool):
        for word, (said, holds) in BOUNDS.items():
            if word in schema and not holds(value, schema[word]):
                yield path, f"{_name(path)} must be {said} {schema[word]}, not {value}", WRONG


def _resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    for _ in range(REFS_MAX):
        reference = schema.get("$ref") if isinstance(schema, dict) else None
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return schema
        found: Any = root
        for key in reference[2:].split("/"):
            found = found.get(key, {}) if isinstance(found, Mapping) else {}
        schema = found
    return {}


def _is_type(value: Any, wanted: str | list[str]) -> bool:
    if isinstance(wanted, list):
        return any(_is_type(value, one) for one in wanted)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match wanted:
        case "string":
            return isinstance(value, str)
        case "integer":
            return number and float(value).is_integer()
        case "number":
            return number
        case "boolean":
            return isinstance(value, bool)
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case "null":
            return value is None
        case _:
            return True


WORDS: Final = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


def _described(schema: Any) -> str:
    wanted = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(wanted, list):
        return " or ".join(WORDS.get(str(one), str(one)) for one in wanted)
    if wanted is None and isinstance(schema, dict) and "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    return WORDS.get(str(wanted), "another value")


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str | int | float) else type_name(value)


def _name(path: Path) -> str:
    return next((key for key in reversed(path) if isinstance(key, str)), "the value")
