"""The room of log `approvals`, as the owner host runs it (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from headrace import codec
from headrace.codec import Raw
from headrace.decider import AnyRow, Context, Effect, Reason, Rejection
from headrace.events.approvals import ApprovalEvent
from headrace.events.upcasting import fingerprint
from headrace.messages import ApprovalCommand
from headrace.vocabulary import LOG_APPROVALS
from headrace_gatekeeper.approvals import decide, evolve, react, state, views
from headrace_gatekeeper.approvals.state import Approval


class ApprovalRoom:
    """Approvals: a pure core and its projection."""

    log: ClassVar[str] = LOG_APPROVALS
    format: ClassVar[int] = 1

    def __init__(self) -> None:
        self.fingerprint = fingerprint(state, evolve)
        self._commands: msgspec.json.Decoder[ApprovalCommand] = msgspec.json.Decoder(ApprovalCommand)
        self._states = msgspec.json.Decoder(Approval)

    def initial(self, stream_id: str, workspace: str) -> Approval:
        """Give the state of an approval that nobody asked for yet."""
        return Approval(id=stream_id, workspace=workspace)

    def exists(self, state: Approval) -> bool:
        """Tell whether the approval was opened."""
        return state.opened is not None

    def read_command(self, data: Raw | bytes) -> ApprovalCommand:
        """Decode a command; raises msgspec.ValidationError or DecodeError."""
        return self._commands.decode(data)

    def decide(
        self, state: Approval, command: ApprovalCommand, context: Context
    ) -> Sequence[ApprovalEvent] | Rejection:
        """Say what happens."""
        return decide.decide(state, command, context)

    def evolve(self, state: Approval, event: ApprovalEvent, at: int) -> Approval:
        """Remember an event."""
        return evolve.evolve(state, event, at)

    def react(self, state: Approval, event: ApprovalEvent) -> Iterable[Effect]:
        """Say what an event sets going."""
        return react.react(state, event)

    def receipts(self, state: Approval, command: ApprovalCommand, context: Context) -> Iterable[Effect]:
        """Say what a command earns whether or not it made events."""
        return react.receipts(state, command, context.now)

    def outstanding(self, state: Approval, now: int) -> Iterable[Effect]:
        """Say what should be under way now."""
        return react.outstanding(state)

    def explain(self, state: Approval) -> Sequence[Reason]:
        """Say why it is not moving."""
        return views.explain(state)

    def wake_at(self, state: Approval) -> int | None:
        """Give the earliest time at which it wants a wake-up."""
        return react.wake_at(state)

    def finished(self, state: Approval) -> bool:
        """Tell whether it is closed and its asker knows."""
        return state.closed and not state.untold

    def rows(self, state: Approval, events: Sequence[ApprovalEvent] | None) -> Iterable[AnyRow]:
        """Give its one row."""
        row = views.row(state)
        return () if row is None else (row,)

    def attachments(self, command: ApprovalCommand) -> Mapping[str, bytes]:
        """Give no blobs: what is shown stands in the event."""
        return {}

    def answer(self, state: Approval, command: ApprovalCommand) -> object:
        """Give where the approval stands now."""
        return views.answer(state)

    def snapshot(self, state: Approval) -> bytes:
        """Write the state."""
        return codec.encode(state)

    def restore(self, data: bytes) -> Approval:
        """Read a state back."""
        return self._states.decode(data)
