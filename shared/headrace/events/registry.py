"""The one table of events: which log holds which, by name (pure)."""

from typing import Final, get_args

import msgspec

from headrace.events.approvals import ApprovalEvent
from headrace.events.base import Event
from headrace.events.catalogue import CatalogueEvent
from headrace.events.runs import RunEvent
from headrace.vocabulary import LOG_APPROVALS, LOG_CATALOGUE, LOG_RUNS

EVENTS: Final[dict[str, tuple[type[Event], ...]]] = {
    LOG_RUNS: get_args(RunEvent),
    LOG_CATALOGUE: get_args(CatalogueEvent),
    LOG_APPROVALS: get_args(ApprovalEvent),
}
BY_NAME: Final[dict[str, type[Event]]] = {kind.type_name(): kind for kinds in EVENTS.values() for kind in kinds}
DECODERS: Final[dict[str, msgspec.json.Decoder[Event]]] = {
    name: msgspec.json.Decoder(kind) for name, kind in BY_NAME.items()
}


def decode(name: str, data: bytes) -> Event:
    """Read an event's bytes; raises KeyError for a name that this code does not know."""
    return DECODERS[name].decode(data)
