"""What the models say against a canonical form, in sentences about the document (pure)."""

from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic import ValidationError as ModelError
from pydantic_core import ErrorDetails

from headrace import codec
from headrace.expressions.near import hint, meant
from headrace.specs.forms import Found, fields_of
from headrace.specs.models import UNION_TAGS
from headrace.specs.problems import Path

WORDS: Final = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "int_from_float": "a whole number",
}


def judged[Model: BaseModel](model: type[Model], value: Any, path: Path, found: Found) -> Model | None:
    """Give the model of a canonical form, or None when it is wrong; every mistake is noted under `path`."""
    try:
        return model.model_validate(value)
    except ModelError as problem:
        for error in problem.errors(include_url=False):
            place = (*path, *(key for key in error["loc"] if key not in UNION_TAGS))
            found.problem(place, _sentence(model, error, _field(place, found)))
        return None


def _field(place: Path, found: Found) -> str:
    """Name a field as the document does: the limit `step` of `timeout` is `timeout.step` there."""
    source = found.moves.get(place, place)
    within = source[len(place) - 1 :] if source[: len(place) - 1] == place[:-1] else source[-1:]
    named = [key for key in within if isinstance(key, str)]
    return ".".join(named) or next((key for key in reversed(place) if isinstance(key, str)), "")


def _sentence(model: type[BaseModel], error: ErrorDetails, last: str) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return f"unknown field {last!r}{hint(str(last), _fields_at(model, error['loc'][:-1]))}"
    if kind == "missing":
        return f"{last} is missing"
    if kind == "literal_error":
        allowed = _allowed(error)
        return (
            f"{last} must be one of {', '.join(allowed)}, not {error['input']!r}{meant(str(error['input']), allowed)}"
        )
    if kind in WORDS:
        return f"{last} must be {WORDS[kind]}, not {codec.type_of(error['input'])}"
    if kind == "value_error":
        return f"{last}: {error['msg'].removeprefix('Value error, ')}"
    if kind in {"greater_than_equal", "less_than_equal"}:
        limit = error["ctx"]["ge"] if kind == "greater_than_equal" else error["ctx"]["le"]
        return (
            f"{last} must be at {'least' if kind == 'greater_than_equal' else 'most'} {limit:g}, not {error['input']}"
        )
    if kind in {"string_too_short", "too_short"}:
        return f"{last} must not be empty"
    return f"{last}: {error['msg']}"


def _allowed(error: ErrorDetails) -> list[str]:
    expected = str(error["ctx"]["expected"])
    return [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> frozenset[str]:
    """Give the fields that the model at a place knows."""
    here: Any = model
    for key in loc:
        if isinstance(key, int) or key in UNION_TAGS:
            continue
        infos = {info.alias or name: info for name, info in here.model_fields.items()}
        below = _model_in(infos[key].annotation) if key in infos else None
        here = below or here
    return fields_of(here)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Give the last model that an annotation holds (of a union of a text and a model, the model)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [found for argument in get_args(annotation) if (found := _model_in(argument)) is not None]
    return models[-1] if models else None
