"""JSON Schema of every kind of document, for editors and other programs (pure)."""

from typing import Any, Final

from headrace.specs.models import DOCUMENTS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Give one JSON Schema by kind. It describes the canonical form; reading accepts older spellings beside it."""
    return {
        kind: {"$schema": DIALECT, "$id": f"headrace/v1/{kind}", **model.model_json_schema(by_alias=True)}
        for kind, model in DOCUMENTS.items()
    }
