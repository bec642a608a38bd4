"""Every error of headrace, as one tree, and the envelope that carries one over the wire (pure).

HeadraceError
├── ValidationError            400  validation_error      a document, field or value is wrong
│   ├── UnprocessableError     422  validation_error      the key was used with another body
│   ├── ToolNotFoundError      400  tool_not_found
│   └── MissingArgumentError   400  missing_argument
├── UnauthorizedError          401  unauthorized          no token, or an unknown one
├── ForbiddenError             403  forbidden             the token may not do this
├── NotAuthorizedError         403  not_authorized        no approval covers this plan
├── NotFoundError              404  not_found
├── ConflictError              409  conflict              the thing is not in a state that allows it
├── DigestMismatchError        409  plan_id_mismatch      what was decided on is not what is there
├── NotConnectedError          409  integration_not_connected
├── PreconditionFailedError    412  precondition_failed
├── TooLargeError              413  validation_error
├── RateLimitedError           429  rate_limited
├── UnavailableError           503  unavailable           a part we need does not answer; try again
│   └── StaleOwnerError        503  unavailable           another process owns the partition now
├── StepError                  500  execution_error       something performed went wrong; `type` says what
└── DatabaseVersionError       500  execution_error       the database is newer or older than this code
"""

from typing import Any, ClassVar, Final

REDACTED: Final = "[redacted]"
MESSAGE_CHARS_MAX: Final = 4_000
KEY_HEADER: Final = "Idempotency-Key"


class HeadraceError(Exception):
    """Anything that headrace refuses or fails at, with a type, an HTTP status and details."""

    type: str = "execution_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, details: dict[str, Any] | None = None, plugin: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or {}
        self.plugin = plugin

    def envelope(self) -> dict[str, Any]:
        """Give the error as the body that users meet (VOCABULARY "Error envelope"), without time and request id."""
        return {
            "type": self.type,
            "message": self.message[:MESSAGE_CHARS_MAX],
            "details": self.details,
            "plugin": self.plugin,
        }


class ValidationError(HeadraceError):
    """A document, a field or a value is wrong."""

    type = "validation_error"
    status = 400


class UnprocessableError(ValidationError):
    """The request contradicts an earlier one under the same key."""

    status = 422


class ToolNotFoundError(ValidationError):
    """No tool of that name is known."""

    type = "tool_not_found"


class MissingArgumentError(ValidationError):
    """A required argument was not given."""

    type = "missing_argument"


class UnauthorizedError(HeadraceError):
    """No access token was given, or it is unknown, expired or revoked."""

    type = "unauthorized"
    status = 401


class ForbiddenError(HeadraceError):
    """The caller's roles do not allow this."""

    type = "forbidden"
    status = 403


class NotAuthorizedError(HeadraceError):
    """No approval covers this plan, so it may not run."""

    type = "not_authorized"
    status = 403


class NotFoundError(HeadraceError):
    """There is no such thing."""

    type = "not_found"
    status = 404


class ConflictError(HeadraceError):
    """The thing is not in a state that allows this."""

    type = "conflict"
    status = 409


class DigestMismatchError(HeadraceError):
    """The digest that was decided on is not the digest of what is there."""

    type = "plan_id_mismatch"
    status = 409


class NotConnectedError(HeadraceError):
    """An integration that is needed has no usable connection."""

    type = "integration_not_connected"
    status = 409


class PreconditionFailedError(HeadraceError):
    """A condition that had to hold before acting does not."""

    type = "precondition_failed"
    status = 412


class TooLargeError(HeadraceError):
    """The body is over a stated limit."""

    type = "validation_error"
    status = 413


class RateLimitedError(HeadraceError):
    """Too many requests; `details.retry_after_s` says when to try again."""

    type = "rate_limited"
    status = 429


class UnavailableError(HeadraceError):
    """A part that is needed does not answer now; the same request may be sent again."""

    type = "unavailable"
    status = 503


class StaleOwnerError(UnavailableError):
    """Another process owns the partition now; what was not committed here is decided there."""


class StepError(HeadraceError):
    """Something that was performed went wrong; `type` is one of the step error types of VOCABULARY."""

    def __init__(
        self,
        message: str,
        *,
        type: str = "execution_error",
        details: dict[str, Any] | None = None,
        plugin: str | None = None,
    ) -> None:
        super().__init__(message, details=details, plugin=plugin)
        self.type = type


class DatabaseVersionError(HeadraceError):
    """The database's schema does not fit this code."""


BY_STATUS: Final[dict[str, type[HeadraceError]]] = {
    kind.type: kind
    for kind in (
        ToolNotFoundError,
        MissingArgumentError,
        UnauthorizedError,
        ForbiddenError,
        NotAuthorizedError,
        NotFoundError,
        ConflictError,
        DigestMismatchError,
        NotConnectedError,
        PreconditionFailedError,
        RateLimitedError,
        UnavailableError,
        ValidationError,
    )
}


def from_envelope(error: dict[str, Any]) -> HeadraceError:
    """Make the error again that an envelope's `error` describes; an unknown type becomes a StepError of that type."""
    message, details, plugin = str(error.get("message", "")), error.get("details") or {}, error.get("plugin")
    kind = BY_STATUS.get(str(error.get("type")))
    if kind is None:
        return StepError(message, type=str(error.get("type")), details=details, plugin=plugin)
    return kind(message, details=details, plugin=plugin)
