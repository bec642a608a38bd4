"""The AsyncAPI 3 description of what users meet on NATS: trigger events in, committed events out.

FastStream writes it from a broker that never connects: the hot loops beneath use nats-py and standing pulls, which
FastStream does not have.
"""

from typing import Any, Final

import msgspec
from faststream.nats import NatsBroker
from faststream.specification import AsyncAPI
from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from headrace import __version__
from headrace.bus import subjects
from headrace.vocabulary import LOG_PARTITIONS
from headrace.wire import FeedEvent

TITLE: Final = "headrace on NATS"
ABOUT: Final = (
    "Publish trigger events to start runs, and follow what was committed. JetStream's ack of a trigger is NATS's "
    "promise; headrace's own is the event `run.queued` on the feed, which carries the message id. The feed may repeat, "
    "and after a restart it may miss events: fill gaps by position from the HTTP API."
)
ABOUT_TRIGGER: Final = (
    "A CloudEvent (structured mode) or any JSON object. `<name>` in `headrace.trigger.<name>` is the event that a "
    "workflow's `triggers` declare. Send a `Nats-Msg-Id`: repeats of an id meet the same run."
)
ABOUT_FEED: Final = "A batch of committed events of the log `{log}`, in order of position, one batch a partition."


class TriggerEvent(BaseModel):
    """A trigger event: the fields of a CloudEvent, or any other."""

    model_config = ConfigDict(extra="allow")

    specversion: str | None = Field(default=None, examples=["1.0"])
    id: str | None = None
    source: str | None = None
    type: str | None = None
    data: Any = None


def _feed_batch() -> type[BaseModel]:
    """Make the pydantic twin of a batch of FeedEvent, which only the description needs."""
    fields: dict[str, Any] = {
        field.encode_name: (Any if field.type is msgspec.Raw else field.type, ... if field.required else field.default)
        for field in msgspec.structs.fields(FeedEvent)
    }
    event = create_model("FeedEvent", __doc__=FeedEvent.__doc__, **fields)

    class FeedBatch(RootModel[list[event]]):
        """Committed events."""

    return FeedBatch


def specification(url: str) -> AsyncAPI:
    """Describe the users' subjects on a server."""
    broker = NatsBroker(url, logger=None)

    @broker.subscriber(subjects.TRIGGERS, title="trigger", description=ABOUT_TRIGGER)
    async def trigger(event: TriggerEvent) -> None:
        """Start a run of each workflow that declares the event."""

    for log in LOG_PARTITIONS:
        broker.publisher(
            subjects.feed(log), title=f"feed_{log}", description=ABOUT_FEED.format(log=log), schema=_feed_batch()
        )
    return AsyncAPI(broker, title=TITLE, version=__version__, description=ABOUT, schema_version="3.0.0")
