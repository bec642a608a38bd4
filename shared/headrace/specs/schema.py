"""JSON Schema of every kind of document, for editors and other programs (pure).

It describes the canonical form, and beside it the short forms that people write (`retry: 3`, `wait: 30s`,
`inputs: {root: string}`). Reading accepts older spellings beside these, which an editor need not propose.
"""

from typing import Any, Final

from headrace.plans.durations import duration
from headrace.specs.durations import SCHEMA as DURATION
from headrace.specs.models import DOCUMENTS
from headrace.vocabulary import CONCURRENCY_LIMIT_MAX, RETRY_ATTEMPTS_MAX

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string", "minLength": 1}
_NOTHING: Final[Schema] = {"enum": [None, True]}
_ATTEMPTS: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": RETRY_ATTEMPTS_MAX}
_CALL: Final[Schema] = {"type": "string", "pattern": r"^[^.]+\..+$", "examples": ["github.list_issues"]}
_TIMEOUTS: Final[Schema] = {
    "type": "object",
    "description": "Bounds the wait in a queue, one attempt, or all attempts with the delays between them.",
    "properties": dict.fromkeys(("queue", "attempt", "step"), DURATION),
    "additionalProperties": False,
}
SHORT_FORMS: Final[tuple[tuple[str, str, tuple[Schema, ...]], ...]] = (
    ("WorkflowSpec", "concurrency", ({"type": "integer", "minimum": 1, "maximum": CONCURRENCY_LIMIT_MAX}, _TEXT)),
    ("Step", "depends_on", (_TEXT, {"type": "null"})),
    ("Step", "timeout", (_TIMEOUTS,)),
    ("Step", "retry", (_ATTEMPTS, _NOTHING)),
    ("Step", "http", (_TEXT,)),
    ("Step", "integration", (_CALL,)),
    ("Step", "approval", (_NOTHING,)),
    ("Step", "wait", (DURATION,)),
    ("Step", "sub_workflow", (_TEXT,)),
    ("Step", "compensate", (_TEXT,)),
    ("Compensation", "retry", (_ATTEMPTS, _NOTHING)),
    ("Compensation", "http", (_TEXT,)),
    ("Compensation", "integration", (_CALL,)),
    ("Choice", "then", (_TEXT, {"type": "null"})),
    ("Choice", "else", (_TEXT, {"type": "null"})),
    ("Loop", "steps", (_TEXT,)),
    ("Retry", "retry_on", (_TEXT,)),
    ("Retry", "backoff", (DURATION, {"enum": ["exponential", "fixed", "linear"]})),
)
"""What may stand in a field instead of its canonical form: the definition, its field, the forms."""


def schema() -> dict[str, Any]:
    """Give one JSON Schema by kind."""
    return {
        kind: {"$schema": DIALECT, "$id": f"headrace/v1/{kind}", **_as_written(model.model_json_schema(by_alias=True))}
        for kind, model in DOCUMENTS.items()
    }


def _as_written(published: Schema) -> Schema:
    definitions = published["$defs"]
    for name, field, forms in SHORT_FORMS:
        if name in definitions:
            _widen(definitions[name]["properties"], field, forms)
    if "Trigger" in definitions:
        definitions["Trigger"]["required"] = ["event"]
    types = definitions["InputField"]["properties"]["type"]["enum"]
    for definition in definitions.values():
        fields = definition.get("properties", {})
        if "inputs" in fields and _name_of(fields["inputs"]) == "InputField":
            whole = fields["inputs"]["additionalProperties"]
            fields["inputs"]["additionalProperties"] = {"anyOf": [whole, {"enum": [*types, None]}]}
        for field in fields.values():
            if field.get("pattern") == DURATION["pattern"] and isinstance(field.get("default"), float):
                field["default"] = duration(field["default"])
    return published


def _name_of(field: Schema) -> str:
    """Give the name of the definition that a mapping's values refer to, or nothing."""
    values = field.get("additionalProperties")
    return str(values.get("$ref", "")).rpartition("/")[2] if isinstance(values, dict) else ""


def _widen(fields: Schema, field: str, forms: tuple[Schema, ...]) -> None:
    """Let short forms stand where the canonical form does; what describes the field stays outside."""
    whole = fields[field]
    around: Schema = {key: whole.pop(key) for key in ("title", "default", "description") if key in whole}
    choices = whole.pop("anyOf", None) or [whole]
    fields[field] = {"anyOf": [*choices, *forms], **around}
