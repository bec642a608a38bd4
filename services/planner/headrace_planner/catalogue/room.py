"""The room of log `catalogue`, as the owner host runs it (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from headrace import codec
from headrace.codec import NULL, Raw
from headrace.decider import Context, Effect, Library, Reason, Rejection, Row
from headrace.events.catalogue import CatalogueEvent
from headrace.events.upcasting import fingerprint
from headrace.messages import ApplyWorkflow, CatalogueCommand, RecompileWorkflow, RecordPlan
from headrace.vocabulary import LOG_CATALOGUE
from headrace_planner.catalogue import decide, evolve, react, state, views
from headrace_planner.catalogue.state import Definition


class CatalogueRoom:
    """Definitions: a pure core and its projections. `library` gives plans' bodies, which approvers are shown."""

    log: ClassVar[str] = LOG_CATALOGUE
    format: ClassVar[int] = 1

    def __init__(self, library: Library) -> None:
        self._library = library
        self.fingerprint = fingerprint(state, evolve)
        self._commands: msgspec.json.Decoder[CatalogueCommand] = msgspec.json.Decoder(CatalogueCommand)
        self._states = msgspec.json.Decoder(Definition)

    def initial(self, stream_id: str, workspace: str) -> Definition:
        """Give the state of a definition that does not exist yet."""
        return Definition(id=stream_id, workspace=workspace)

    def exists(self, state: Definition) -> bool:
        """Tell whether there is such a definition."""
        return state.thing is not None

    def read_command(self, data: Raw | bytes) -> CatalogueCommand:
        """Decode a command; raises msgspec.ValidationError or DecodeError."""
        return self._commands.decode(data)

    def decide(
        self, state: Definition, command: CatalogueCommand, context: Context
    ) -> Sequence[CatalogueEvent] | Rejection:
        """Say what happens; raises MissingError when a plan's body must be fetched first."""
        return decide.decide(state, command, context, self._library)

    def evolve(self, state: Definition, event: CatalogueEvent, at: int) -> Definition:
        """Remember an event."""
        return evolve.evolve(state, event, at)

    def react(self, state: Definition, event: CatalogueEvent) -> Iterable[Effect]:
        """Say what an event sets going."""
        return react.react(state, event)

    def receipts(self, state: Definition, command: CatalogueCommand, context: Context) -> Iterable[Effect]:
        """Say what a command earns whether or not it made events."""
        return react.receipts(state, command, context)

    def outstanding(self, state: Definition, now: int) -> Iterable[Effect]:
        """Say what should be under way now."""
        return react.outstanding(state)

    def explain(self, state: Definition) -> Sequence[Reason]:
        """Say why it is not moving."""
        return views.explain(state)

    def wake_at(self, state: Definition) -> int | None:
        """Give the earliest time at which it wants a wake-up."""
        return react.wake_at(state)

    def finished(self, state: Definition) -> bool:
        """Tell that a definition never ends."""
        return False

    def rows(self, state: Definition, events: Sequence[CatalogueEvent] | None) -> Iterable[Row]:
        """Give its one row."""
        row = views.row(state)
        return () if row is None else (row,)

    def attachments(self, command: CatalogueCommand) -> Mapping[str, bytes]:
        """Give the plan's body by its digest."""
        if isinstance(command, RecordPlan | ApplyWorkflow | RecompileWorkflow) and command.plan != NULL:
            body = bytes(command.plan)
            return {codec.sha256(body): body}
        return {}

    def answer(self, state: Definition, command: CatalogueCommand) -> object:
        """Give what the definition says now."""
        return views.answer(state)

    def snapshot(self, state: Definition) -> bytes:
        """Write the state."""
        return codec.encode(state)

    def restore(self, data: bytes) -> Definition:
        """Read a state back."""
        return self._states.decode(data)
