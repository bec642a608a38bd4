"""What a run is given, checked against what its plan asks for (pure)."""

from collections.abc import Callable
from typing import Any, Final

from headrace import codec
from headrace.codec import Raw
from headrace.errors import MissingArgumentError, ValidationError
from headrace.expressions.near import meant
from headrace.plans.model import InputField
from headrace.vocabulary import PRIORITY_MAX

INEXACT: Final = (
    "holds what cannot be kept exactly: a whole number beyond 2^53 - 1, a number beyond 1.8e308, or half of a surrogate "
    "pair; write it as a text"
)
TYPES: Final[dict[str, Callable[[Any], bool]]] = {
    "any": lambda _: True,
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def priority(wanted: int) -> int:
    """Give a run's priority; raises ValidationError for one that is none."""
    if abs(wanted) > PRIORITY_MAX:
        message = f"a priority is a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX} (higher first), not {wanted}"
        raise ValidationError(message, details={"field": "priority"})
    return wanted


def digest_of(text: Raw, inputs: dict[str, Any]) -> str:
    """Give the digest of inputs, whose text that is; raises ValidationError naming each that has none."""
    try:
        return codec.digest_of(text, inputs)
    except ValidationError:
        problems = [
            {"field": f"inputs.{name}", "message": f"input {name!r} {INEXACT}"}
            for name, value in inputs.items()
            if not _exact(value)
        ]
        if not problems:
            raise
        raise ValidationError("; ".join(one["message"] for one in problems), details={"problems": problems}) from None


def _exact(value: Any) -> bool:
    try:
        codec.canonical(value)
    except ValidationError:
        return False
    return True


def accept(fields: dict[str, InputField], given: Any) -> dict[str, Any]:
    """Give the inputs with defaults filled in; raises ValidationError that lists everything wrong with them.

    What was accepted is accepted again: null stands for an optional input that was left out.
    """
    given = {} if given is None else given
    if not isinstance(given, dict):
        message = "inputs must be an object of names and values"
        raise ValidationError(message, details={"field": "inputs"})
    problems: list[dict[str, str]] = []
    for name in given:
        if name not in fields:
            hint = meant(name, fields) or f"; known are: {', '.join(fields) or 'none'}"
            problems.append({"field": f"inputs.{name}", "message": f"unknown input {name!r}{hint}"})
    missing = [name for name, field in fields.items() if name not in given and field.required and field.default is None]
    problems.extend(
        {"field": f"inputs.{name}", "message": f"input {name!r} is required ({fields[name].type})"} for name in missing
    )
    for name, value in given.items():
        field = fields.get(name)
        left_out = value is None and field is not None and not field.required and field.default is None
        if field is not None and not left_out and not TYPES[field.type](value):
            said = f"input {name!r} must be of type {field.type}, not {codec.type_of(value)}"
            problems.append({"field": f"inputs.{name}", "message": said})
    if problems:
        kind = MissingArgumentError if len(missing) == len(problems) else ValidationError
        raise kind("; ".join(problem["message"] for problem in problems), details={"problems": problems})
    return {name: given.get(name, field.default) for name, field in fields.items()}
