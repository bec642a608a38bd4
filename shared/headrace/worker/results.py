"""What an attempt gave, as the report that its owner records: small things inline, large ones by digest."""

import math
from typing import Any, Final

import msgspec
from pydantic import BaseModel
from pydantic import ValidationError as PydanticError

from headrace import codec
from headrace.codec import NULL, Raw
from headrace.errors import MESSAGE_CHARS_MAX, HeadraceError, RateLimitedError, StepError, ValidationError
from headrace.events.base import ArtifactInfo, BlobRef, ErrorInfo
from headrace.messages import ReportAttempt
from headrace.vocabulary import INLINE_BYTES_MAX, PREVIEW_CHARS, AttemptStatus
from headrace.wire import WorkOrder
from headrace.worker.adapter import OpenObject
from headrace.worker.blobs import BlobClient
from headrace.worker.context import AttemptContext, Kept

ARTIFACTS_INLINE_BYTES_MAX: Final = 256 * 1024
"""All inline bodies of one report together, so that it fits a message."""
DETAILS_BYTES_MAX: Final = 16 * 1024
OTHERS_CODE: Final = ("site-packages", "/lib/python", "<frozen")
SHOW_TRACEBACK: Final = "HEADRACE_LOG_LEVEL=debug shows the traceback"
NOT_RETRYABLE: Final = frozenset(
    {
        "validation_error",
        "missing_argument",
        "precondition_failed",
        "forbidden",
        "not_authorized",
        "confirmation_denied",
        "integration_auth_error",
        "integration_not_connected",
    }
)
"""Errors that the same attempt would meet again (VOCABULARY "Decided questions": retries)."""


def checked_input(model: type[BaseModel], arguments: Any, tool: str) -> BaseModel:
    """Give the tool's input; raises ValidationError that lists every wrong or missing argument."""
    if not isinstance(arguments, dict):
        message = f"arguments of {tool} must be an object"
        raise ValidationError(message, plugin=tool)
    try:
        return model.model_validate(arguments)
    except PydanticError as problem:
        problems = _problems(problem)
        message = f"arguments of {tool}: " + "; ".join(f"{each['field']}: {each['message']}" for each in problems)
        raise ValidationError(message, details={"problems": problems}, plugin=tool) from problem


def checked_output(model: type[BaseModel], given: Any, tool: str) -> dict[str, Any]:
    """Give the result as JSON; raises ValidationError for anything but an object of the tool's output model."""
    if isinstance(given, BaseModel):
        given = given.model_dump()
    if not isinstance(given, dict):
        kind = "nothing" if given is None else f"a {type(given).__name__}"
        message = f"{tool} gave {kind}; a tool gives an object"
        raise ValidationError(message, plugin=tool)
    try:
        if model is OpenObject and _is_plain(given):
            return given  # any object will do, and this one is JSON already
        return _as_json(model.model_validate(given))
    except PydanticError as problem:
        problems = _problems(problem)
        message = f"the result of {tool}: " + "; ".join(f"{each['field']}: {each['message']}" for each in problems)
        raise ValidationError(message, details={"problems": problems}, plugin=tool) from problem
    except ValueError as problem:  # pydantic's serialiser refuses what JSON has no form for
        message = f"the result of {tool} is not JSON: {problem}"
        raise ValidationError(message, plugin=tool) from problem


async def kept_body(body: bytes, blobs: BlobClient, token: str) -> BlobRef:
    """Keep an output that is too large for the report."""
    digest = await blobs.put(body, token)
    return BlobRef(digest=digest, size_bytes=len(body), preview=preview_of(body))


async def kept_artifacts(context: AttemptContext, blobs: BlobClient, token: str) -> tuple[ArtifactInfo, ...]:
    """Give what the tool kept: bodies inline while they are small and text, else as blobs."""
    artifacts: list[ArtifactInfo] = []
    inline_bytes = 0
    for kept in context.kept:
        inline = _inline_body(kept, context, inline_bytes)
        value = codec.raw(context.scrubber.value(kept.value))
        inline_bytes += len(bytes(value))
        if inline_bytes > ARTIFACTS_INLINE_BYTES_MAX:
            message = f"values of artifacts may hold {ARTIFACTS_INLINE_BYTES_MAX} bytes together; give bodies instead"
            raise ValidationError(message, details={"label": kept.label})
        if kept.body is None or inline is not None:
            inline_bytes += len(inline or b"")
            body, blob = (Raw(inline) if inline is not None else NULL), None
        else:
            content = context.scrubber.body(kept.body)
            digest = await blobs.put(content, token)
            preview = preview_of(content) if kept.media_type.startswith(("text/", "application/json")) else ""
            blob = BlobRef(digest=digest, size_bytes=len(content), preview=preview, media_type=kept.media_type)
            body = NULL
        artifacts.append(
            ArtifactInfo(
                type=kept.type, label=kept.label, value=value, body=body, blob=blob, media_type=kept.media_type
            )
        )
    return tuple(artifacts)


def error_info(problem: BaseException, tool: str, context: AttemptContext | None) -> ErrorInfo:
    """Give an exception as it is recorded: a type, a message, details, and never a traceback."""
    if isinstance(problem, HeadraceError):
        kind, message, details = problem.type, problem.message, problem.details
    else:
        kind, message, details = "tool_error", _said(problem), {}
    if context is not None:
        message, details = context.scrubber.text(message), context.scrubber.value(details)
    return ErrorInfo(type=kind, message=message[:MESSAGE_CHARS_MAX], details=_bounded(details), plugin=tool)


def _as_json(result: BaseModel) -> dict[str, Any]:
    """Give a result as JSON values. Pydantic writes NaN and infinity as null: what would be lost so is kept or refused."""
    plain = result.model_dump()
    if _is_plain(plain):
        return plain
    return result.model_dump(mode="json")


def _is_plain(value: Any) -> bool:
    """Tell whether a value is made of JSON's own kinds alone; raises ValueError for NaN, which has no form."""
    if type(value) in codec.HARMLESS:
        return True
    if isinstance(value, dict):
        for key, item in value.items():
            if not (isinstance(key, str) and (type(item) in codec.HARMLESS or _is_plain(item))):
                return False
        return True
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, float) and math.isnan(value):
        message = "NaN is not a number that JSON knows"
        raise ValueError(message)
    return value is None or isinstance(value, str | int | float | bool)


def _said(problem: BaseException) -> str:
    """Give an exception's own words; a plug-in's exception may fail even at that."""
    name = type(problem).__name__
    try:
        return f"{name}: {problem}"
    except Exception:  # noqa: BLE001  (its name must do)
        return name


def retryable(error: ErrorInfo, problem: BaseException) -> bool:
    """Tell whether another attempt may end otherwise; a problem may say so itself in `details.retryable`."""
    said = problem.details.get("retryable") if isinstance(problem, HeadraceError) else None
    return said if isinstance(said, bool) else error.type not in NOT_RETRYABLE


def retry_after_s(problem: BaseException) -> float | None:
    """Give how long the outside asked us to wait, in seconds."""
    if isinstance(problem, RateLimitedError | StepError):
        seconds = problem.details.get("retry_after_s")
        return float(seconds) if isinstance(seconds, int | float) else None
    return None


def place(problem: BaseException) -> str:
    """Say where a tool's own code raised what it did not mean to give its caller, for its author; nothing else of it."""
    traceback = None if isinstance(problem, HeadraceError) else problem.__traceback__
    found = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if found is None or not any(part in code.co_filename for part in OTHERS_CODE):
            found = f" (at {code.co_filename}:{traceback.tb_lineno} in {code.co_name}; {SHOW_TRACEBACK})"
        traceback = traceback.tb_next
    return found or ""


def blank(worker: str) -> ReportAttempt:
    """Give what all reports of a worker have in common."""
    return ReportAttempt(run_id="", step="", attempt=0, attempt_id="", status="", worker=worker)


def report(like: ReportAttempt, order: WorkOrder, status: AttemptStatus, after: str, **fields: Any) -> ReportAttempt:
    """Make the report of an attempt; of one that follows another in a chain, with what its owner must know of that."""
    return msgspec.structs.replace(
        like,
        run_id=order.run_id,
        step=order.step,
        attempt=order.attempt,
        attempt_id=order.attempt_id,
        index=order.index,
        status=status.value,
        after=after,
        arguments_digest=order.arguments_digest if after else "",
        **fields,
    )


def preview_of(body: bytes) -> str:
    """Give the beginning of a body, for people."""
    return body[: PREVIEW_CHARS * 4].decode(errors="replace")[:PREVIEW_CHARS]


def _inline_body(kept: Kept, context: AttemptContext, inline_bytes: int) -> bytes | None:
    if kept.body is None or len(kept.body) > INLINE_BYTES_MAX:
        return None
    try:
        written = codec.dumps(context.scrubber.text(kept.body.decode()))
    except UnicodeDecodeError:
        return None
    return written if inline_bytes + len(written) <= ARTIFACTS_INLINE_BYTES_MAX else None


def _problems(problem: PydanticError) -> list[dict[str, str]]:
    """Give pydantic's findings without the values, which may be secrets or huge."""
    return [
        {"field": ".".join(map(str, each["loc"])) or "(all)", "message": each["msg"], "type": each["type"]}
        for each in problem.errors(include_url=False, include_input=False, include_context=False)
    ]


def _bounded(details: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(codec.dumps(details))
    except ValidationError as problem:
        return {"unreadable": problem.message}
    return details if size <= DETAILS_BYTES_MAX else {"omitted": f"{size} bytes of details"}
