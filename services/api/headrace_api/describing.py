"""What the OpenAPI document says beside the routes' own parameters and bodies: headers that are read, and headers that are sent."""

from typing import Any, Final

from fastapi import FastAPI

from headrace.vocabulary import IDEMPOTENCY_KEY_CHARS_MAX

WAITING: Final = frozenset({"create_run", "act_on_run", "trigger_workflow", "run_tool", "run_dashboard"})
"""Operations that make a run and can wait for its end."""
FOLLOWED: Final = frozenset({"list_run_events", "list_run_lines"})
"""Operations that can answer with server-sent events."""
MAKING: Final = frozenset({*WAITING, "apply_workflow", "put_workflow"})
"""Operations that say where what they made is."""
ENVELOPE: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}}


def _text(about: str, **more: Any) -> dict[str, Any]:
    return {"description": about, "schema": {"type": "string", **more}}


KEY: Final = _text(
    "Repeats under the same key and with the same body meet the same answer; another body under it is 422.",
    minLength=1,
    maxLength=IDEMPOTENCY_KEY_CHARS_MAX,
)
PREFER: Final = _text("`wait=30` waits for the run's end, at most 60 s, and then answers 200.")
LAST_ID: Final = _text("The id after which a stream goes on; wins over `cursor`.")
REQUEST_ID: Final = _text("The id of the request, which the api's log carries too; the sender's own if it gave one.")
RETRY_AFTER: Final = {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}
REFUSED: Final[dict[str, dict[str, Any]]] = {
    "401": {
        "description": "no access token, or one that is unknown or revoked",
        "headers": {"WWW-Authenticate": _text("`Bearer`")},
    },
    "429": {"description": "too many unfinished runs", "headers": {"Retry-After": RETRY_AFTER}},
    "503": {"description": "a part that is needed does not answer", "headers": {"Retry-After": RETRY_AFTER}},
}


class Described(FastAPI):
    """An application whose document names the headers too."""

    def openapi(self) -> dict[str, Any]:
        """Give the OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            for path in document["paths"].values():
                for method, operation in path.items():
                    _describe(method, operation)
        return super().openapi()


def _describe(method: str, operation: dict[str, Any]) -> None:
    name, responses = operation["operationId"], operation["responses"]
    read = {"Idempotency-Key": method == "post", "Prefer": name in WAITING, "Last-Event-ID": name in FOLLOWED}
    told = {"Idempotency-Key": KEY, "Prefer": PREFER, "Last-Event-ID": LAST_ID}
    headers = [
        {"name": each, "in": "header", "required": False, **told[each]} for each, is_read in read.items() if is_read
    ]
    if headers:
        operation["parameters"] = [*operation.get("parameters", ()), *headers]
    if "security" in operation:
        for code, refusal in REFUSED.items():
            if code != "429" or name in WAITING:
                responses[code] = {**refusal, "content": ENVELOPE}
    for code, response in responses.items():
        response.setdefault("headers", {})
        response["headers"] = {**response["headers"], "X-Request-Id": REQUEST_ID}
        if name in MAKING and code in {"201", "202"}:
            response["headers"]["Location"] = _text("Where it is.")
