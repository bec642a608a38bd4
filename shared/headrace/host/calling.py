"""Calling into rooms: a mistake in one becomes poison of the message that met it, never of its neighbours."""

from collections.abc import Callable, Sequence
from typing import Any

from headrace.decider import Context, Effect, MissingError, Rejection
from headrace.errors import HeadraceError
from headrace.events.base import Event
from headrace.host.failures import PoisonError, SpoiltError
from headrace.host.tenure import Stream


def decision(room: Any, stream: Stream, command: Any, context: Context) -> Sequence[Event] | Rejection:
    """Decide; an error of ours that is raised instead of given is a refusal as well."""
    try:
        decided: Sequence[Event] | Rejection = guarded(room.decide, stream.state, command, context)
    except PoisonError as problem:
        if isinstance(problem.__cause__, HeadraceError):
            return Rejection(problem.__cause__)
        raise
    return decided


def next_decision(
    room: Any, stream: Stream, commands: Sequence[Any], context: Context
) -> tuple[Sequence[Event] | Rejection, int]:
    """Decide the next of several commands, or as many of a chain's results as the room can at once; tells how many."""
    together = getattr(room, "together", None) if len(commands) > 1 else None
    events, count = ((), 0) if together is None else guarded(together, stream.state, commands, context)
    return (events, count) if count else (decision(room, stream, commands[0], context), 1)


def outstanding(room: Any, stream: Stream, now: int) -> list[Effect]:
    """Give everything that should be under way."""
    return list(room.outstanding(stream.state, now))


def receipts(stream: Stream, command: Any, context: Context) -> list[Effect]:
    """Give what a command earns."""
    return list(stream.held.room.receipts(stream.state, command, context))


def guarded[*Given, Result](call: Callable[[*Given], Result], *given: *Given) -> Result:
    """Call into a room: a mistake in it becomes poison of this message, never of its neighbours."""
    try:
        return call(*given)
    except (MissingError, SpoiltError):
        raise
    except HeadraceError as problem:
        raise PoisonError(problem.message, details=problem.details) from problem
    except Exception as problem:
        message = f"{type(problem).__name__}: {problem}"
        raise PoisonError(message) from problem
