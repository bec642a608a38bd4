"""The room of log `flow`: keys that many runs share, as the owner host runs them (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from headrace import codec
from headrace.codec import Raw
from headrace.decider import Context, Effect, Reason, Rejection, Row
from headrace.events.flow import FlowEvent
from headrace.events.upcasting import fingerprint
from headrace.messages import FlowCommand
from headrace.vocabulary import LOG_FLOW
from headrace_planner.flow import decide, evolve, react, state, uses, views
from headrace_planner.flow.bounds import USUAL
from headrace_planner.flow.state import Flow


class FlowRoom:
    """Shared keys: a pure core and its projection."""

    log: ClassVar[str] = LOG_FLOW
    format: ClassVar[int] = 2
    renews: ClassVar[bool] = True

    def __init__(self) -> None:
        self.fingerprint = fingerprint(evolve, state, uses)
        self.bounds = USUAL
        self._commands: msgspec.json.Decoder[FlowCommand] = msgspec.json.Decoder(FlowCommand)
        self._states = msgspec.json.Decoder(Flow)

    def initial(self, stream_id: str, workspace: str) -> Flow:
        """Give a key that nobody asked for yet."""
        return Flow(id=stream_id, workspace=workspace)

    def exists(self, state: Flow) -> bool:
        """Tell whether somebody asked for the key."""
        return state.version > 0

    def read_command(self, data: Raw | bytes) -> FlowCommand:
        """Decode a command; raises msgspec.ValidationError or DecodeError."""
        return self._commands.decode(data)

    def decide(self, state: Flow, command: FlowCommand, context: Context) -> Sequence[FlowEvent] | Rejection:
        """Say what happens."""
        return decide.decide(state, command, context, self.bounds)

    def evolve(self, state: Flow, event: FlowEvent, at: int) -> Flow:
        """Remember an event."""
        return evolve.evolve(state, event, at)

    def react(self, state: Flow, event: FlowEvent) -> Iterable[Effect]:
        """Say what an event sets going."""
        return react.react(state, event)

    def receipts(self, state: Flow, command: FlowCommand, context: Context) -> Iterable[Effect]:
        """Say what a command earns whether or not it made events."""
        return react.receipts(state, command, context.now)

    def outstanding(self, state: Flow, now: int) -> Iterable[Effect]:
        """Say what should be under way now."""
        return react.outstanding(state)

    def explain(self, state: Flow) -> Sequence[Reason]:
        """Say why those who wait do not move."""
        return views.explain(state)

    def wake_at(self, state: Flow) -> int | None:
        """Give the earliest time at which it wants a wake-up."""
        return react.wake_at(state, self.bounds)

    def finished(self, state: Flow) -> bool:
        """Tell whether this stream of the key is over: whoever asks next begins a new one."""
        return state.over

    def heir(self, state: Flow) -> Sequence[FlowEvent]:
        """Give what the next stream of the key begins with; nothing when it came to rest, or while it is used."""
        return uses.heir(state)

    def rows(self, state: Flow, events: Sequence[FlowEvent] | None) -> Iterable[Row]:
        """Give its one row."""
        return (views.row(state, self.bounds),) if self.exists(state) else ()

    def attachments(self, command: FlowCommand) -> Mapping[str, bytes]:
        """Give no blobs: a key has no bodies."""
        return {}

    def answer(self, state: Flow, command: FlowCommand) -> object:
        """Give where the key stands."""
        return {"id": state.id, "held": len(state.held), "queued": state.queued}

    def snapshot(self, state: Flow) -> bytes:
        """Write the state."""
        return codec.encode(state)

    def restore(self, data: bytes) -> Flow:
        """Read a state back."""
        return self._states.decode(data)
