"""Given, when, then for deciders: what happened, what is asked, what happens next.

given(room, queued, started).when(CancelRun(reason="R"), now=2_000).then(RunCancelled(by=ANNA, reason="R"))
given(room, succeeded).when(CancelRun()).rejected("already completed")
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace import ids
from headrace.decider import Context, Effect, MissingError, Rejection
from headrace.events.base import SYSTEM, Actor, Event
from headrace.host.items import ADVANCE
from headrace.vocabulary import WORKSPACE_DEFAULT

NOW: Final = 1_000_000
"""When things happen that no time is given for, in milliseconds since 1970."""
TURNS_MAX: Final = 1_000


class BodiesLibrary:
    """A `Library` over a mapping: the twin of the host's. What it lacks raises MissingError."""

    def __init__(self, bodies: Mapping[str, bytes] | None = None) -> None:
        self.bodies = dict(bodies or {})

    def body(self, digest: str) -> bytes:
        """Give the bytes that a digest names; raises MissingError."""
        try:
            return self.bodies[digest]
        except KeyError:
            raise MissingError((digest,)) from None


class Then:
    """What came of a command: its events or refusal, the effects they have, the state after them."""

    def __init__(self, room: Any, state: Any, decision: Sequence[Event] | Rejection, effects: list[Effect]) -> None:
        self._room = room
        self.state = state
        self.decision = decision
        self.effects = effects

    @property
    def events(self) -> tuple[Event, ...]:
        """Give the events; fails when the command was rejected."""
        assert not isinstance(self.decision, Rejection), f"rejected: {self.decision.error.message}"
        return tuple(self.decision)

    def then(self, *events: Event) -> "Then":
        """Demand exactly these events."""
        assert self.events == events, f"expected {events}, got {self.events}"
        return self

    def rejected(self, text: str = "") -> "Then":
        """Demand a refusal whose message contains a text, whatever its case."""
        assert isinstance(self.decision, Rejection), f"expected a refusal, got {tuple(self.decision)}"
        message = self.decision.error.message
        assert text.lower() in message.lower(), f"expected a refusal with {text!r}, got {message!r}"
        return self

    def sends(self, *effects: Effect) -> "Then":
        """Demand exactly these effects."""
        assert tuple(self.effects) == effects, f"expected {effects}, got {tuple(self.effects)}"
        return self


class Given:
    """A stream with its history so far."""

    def __init__(self, room: Any, state: Any, stream_id: str, workspace: str) -> None:
        self._room = room
        self._state = state
        self._stream_id = stream_id
        self._workspace = workspace

    def when(
        self,
        command: Any,
        *,
        now: int = NOW,
        actor: Actor = SYSTEM,
        key: str | None = None,
        advance: bool = False,
    ) -> Then:
        """Decide a command; with `advance`, go on as the owner host does until nothing more happens."""
        context = Context(now=now, stream_id=self._stream_id, workspace=self._workspace, actor=actor, key=key)
        happened: list[Event] = []
        effects: list[Effect] = []
        for turn in range(TURNS_MAX):
            asked = command if turn == 0 else ADVANCE
            decision = self._room.decide(self._state, asked, context)
            if isinstance(decision, Rejection):
                if turn == 0:
                    return Then(self._room, self._state, decision, effects)
                break
            for event in decision:
                self._state = self._room.evolve(self._state, event, now)
                effects.extend(self._room.react(self._state, event))
            effects.extend(self._room.receipts(self._state, asked, context))
            happened.extend(decision)
            if not advance or (turn > 0 and not decision):
                break
        return Then(self._room, self._state, happened, effects)


def given(
    room: Any, *events: Event, stream_id: str | None = None, workspace: str = WORKSPACE_DEFAULT, at: int = NOW
) -> Given:
    """Make a stream of a room to which these events have happened, all at `at`."""
    stream = stream_id or ids.derive(ids.RUN, at, 0, "given")
    state = room.initial(stream, workspace)
    for event in events:
        state = room.evolve(state, event, at)
    return Given(room, state, stream, workspace)
