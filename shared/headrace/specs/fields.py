"""The types of a document's fields: names, ids and other texts with a form of their own (pure)."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from headrace.specs import names


def _document_name(value: str) -> str:
    if len(value) > names.NAME_CHARS_MAX or not names.NAME.fullmatch(value):
        message = f"{value!r} is not a name: lower-case letters, digits and '-', at most {names.NAME_CHARS_MAX}"
        raise ValueError(message)
    return value


def _step_id(value: str) -> str:
    if len(value) > names.STEP_ID_CHARS_MAX or not names.STEP_ID.fullmatch(value):
        message = f"{value!r} is not an id: a lower-case letter, then letters, digits and '_'"
        raise ValueError(message)
    return value


def _trigger_name(value: str) -> str:
    if len(value) > names.TRIGGER_NAME_CHARS_MAX or not names.TRIGGER_NAME.fullmatch(value):
        message = f"{value!r} is not the name of a trigger event: letters, digits, '_' and '-', parted by '.'"
        raise ValueError(message)
    return value


def _signal_name(value: str) -> str:
    if len(value) > names.SIGNAL_NAME_CHARS_MAX or not names.TRIGGER_NAME.fullmatch(value):
        message = f"{value!r} is not the name of a signal: letters, digits, '_' and '-', parted by '.'"
        raise ValueError(message)
    return value


def _preconditions(value: Any) -> Any:
    for condition in value if isinstance(value, list) else [value]:
        if not isinstance(condition, str) or not names.PRECONDITION.fullmatch(condition):
            message = f"unknown precondition {condition!r}; use {names.PRECONDITIONS}"
            raise ValueError(message)
    return value


DocumentName = Annotated[
    str, AfterValidator(_document_name), Field(json_schema_extra={"pattern": "^[a-z0-9][a-z0-9-]*$"})
]
StepId = Annotated[str, AfterValidator(_step_id), Field(json_schema_extra={"pattern": "^[a-z][a-z0-9_]*$"})]
TriggerName = Annotated[str, AfterValidator(_trigger_name)]
SignalName = Annotated[str, AfterValidator(_signal_name)]
Precondition = Annotated[Any, AfterValidator(_preconditions), Field(json_schema_extra={"type": ["string", "array"]})]
