"""What JetStream answers: read, and raised where it refuses."""

from typing import Any, Final

import msgspec
from nats.aio.msg import Msg

from headrace.errors import HeadraceError, UnavailableError

SERVER_ERRORS_FROM: Final = 500

_loads = msgspec.json.Decoder().decode


class ApiError(HeadraceError):
    """JetStream refused a request; `code` is the `err_code` of its answer."""

    type = "upstream_error"

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class NobodyError(UnavailableError):
    """Nobody listens on a subject: no owner, no consumer, or no stream."""


def answer_of(reply: Msg, subject: str, *needs: str) -> dict[str, Any]:
    """Read what JetStream answers; raises UnavailableError where somebody else did: on users' subjects anybody may."""
    try:
        answer = _loads(reply.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = None
    if not isinstance(answer, dict) or not ("error" in answer or answer.keys() >= set(needs)):
        message = f"somebody answers on {subject} who is not JetStream: whether it has the message is not known"
        raise UnavailableError(message)
    return answer


def raise_refusal(answer: dict[str, Any], subject: str) -> None:
    """Raise what an answer of JetStream refuses with: ApiError for what was asked wrongly, else UnavailableError.

    What the server itself is short of may go away: a full disk (500), a store that is still starting (503).
    """
    error = answer.get("error")
    if error is None:
        return
    message = f"JetStream refused {subject}: {error.get('description')}"
    if int(error.get("code", 0)) >= SERVER_ERRORS_FROM:
        raise UnavailableError(message)
    raise ApiError(message, int(error.get("err_code", 0)))
