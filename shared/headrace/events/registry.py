"""The one table of events: which log holds which, by name, and how stored ones are read (pure)."""

from typing import Final, get_args

from headrace.events.approvals import ApprovalEvent
from headrace.events.base import Event
from headrace.events.catalogue import CatalogueEvent
from headrace.events.flow import FlowEvent
from headrace.events.runs import RunEvent
from headrace.events.upcasting import Reader, Stored
from headrace.vocabulary import LOG_APPROVALS, LOG_CATALOGUE, LOG_FLOW, LOG_RUNS

EVENTS: Final[dict[str, tuple[type[Event], ...]]] = {
    LOG_RUNS: get_args(RunEvent),
    LOG_CATALOGUE: get_args(CatalogueEvent),
    LOG_APPROVALS: get_args(ApprovalEvent),
    LOG_FLOW: get_args(FlowEvent),
}
BY_NAME: Final[dict[str, type[Event]]] = {kind.type_name(): kind for kinds in EVENTS.values() for kind in kinds}
_reader: Final = Reader(BY_NAME.values())


def read(stored: Stored) -> Event:
    """Read a stored event, whichever code wrote it; raises DatabaseVersionError for what only newer code knows."""
    return _reader.read(stored)


def decode(name: str, data: bytes, schema: int | None = None) -> Event:
    """Read an event's bytes, written under `schema` (None: by this very code); raises as `read`."""
    return _reader.decode(name, data, schema)
