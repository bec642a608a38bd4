"""How deciding can fail beside a refusal: poison of one message, and a state that was spoilt half way."""

from headrace.errors import HeadraceError, NotFoundError


class PoisonError(HeadraceError):
    """A message or a stream's own step could not be processed: a mistake in code or data, never the caller's wait."""


class SpoiltError(Exception):
    """A state in memory is ahead of what will be committed: it must be made again from the log."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class AbsentError(NotFoundError):
    """A body that a decision needs is in no store."""


class UnaskedError(Exception):
    """A command is about to be refused, but the log was not asked yet what it answered under its key before."""
