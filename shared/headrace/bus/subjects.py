"""Every stream, subject and consumer name on NATS: the one place that spells them (pure).

`headrace.trigger.<name>` and `headrace.feed.<log>` are the users' contract and stand as they are. Internal names carry
a token of the database's incarnation, so that a restored copy of a database never meets the original's messages. No
subject carries the id of a run or step: one stream a partition (inbox) or pool (work), so that nothing filters.
"""

import hashlib
import re
from typing import Final

from headrace.errors import ValidationError
from headrace.vocabulary import POOL_NAME

ROOT: Final = "headrace"
TRIGGER_PREFIX: Final = f"{ROOT}.trigger."
TRIGGERS: Final = f"{TRIGGER_PREFIX}>"
TRIGGER_STREAM: Final = "headrace_trigger"
FEED_PREFIX: Final = f"{ROOT}.feed."
FEEDS: Final = f"{FEED_PREFIX}*"
FEED_STREAM: Final = "headrace_feed"
HELLO_ASK: Final = f"{ROOT}.hello.ask"
"""Whoever knows the incarnation is asked for it here by processes that hold no database."""
HELLO_IS: Final = f"{ROOT}.hello.is"
PROBE_TRIGGER: Final = f"{TRIGGER_PREFIX}headrace_probe"
"""Where a trigger event is published that is none, to see whether the stream takes writes; no workflow hears it."""
PROBE_FEED: Final = f"{FEED_PREFIX}probe"
"""The same for the feed: an empty batch of events."""
READERS: Final = "readers"
TOKEN_CHARS: Final = 10
TRIGGER_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
TRIGGER_CHARS_MAX: Final = 200
EPOCH_PREFIX: Final = "epoch_"

API: Final = "$JS.API."
STREAM_DELETED: Final = "$JS.EVENT.ADVISORY.STREAM.DELETED."
"""How the subject begins on which JetStream says that somebody deleted a stream; the stream's name ends it."""
STREAMS_DELETED: Final = f"{STREAM_DELETED}*"
LEADER_ELECTED: Final = "$JS.EVENT.ADVISORY.CONSUMER.LEADER_ELECTED."
"""How the subject begins on which a cluster says that a consumer has another leader; its stream and name end it."""
LEADERS_ELECTED: Final = f"{LEADER_ELECTED}>"
STREAM_LEADER_ELECTED: Final = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED."
"""The same of a stream."""
STREAM_LEADERS_ELECTED: Final = f"{STREAM_LEADER_ELECTED}*"


def token(incarnation: str) -> str:
    """Give the short name of an incarnation."""
    return hashlib.sha256(incarnation.encode()).hexdigest()[:TOKEN_CHARS]


def trigger(name: str) -> str:
    """Give the subject of a trigger event; raises ValidationError for a name that no subject can carry."""
    if len(name) > TRIGGER_CHARS_MAX or not TRIGGER_NAME.fullmatch(name):
        message = f"{name!r} is not the name of a trigger: letters, digits, '_' and '-', parted by '.'"
        raise ValidationError(message, details={"field": "name"})
    return TRIGGER_PREFIX + name


def trigger_name(subject: str) -> str:
    """Give the name of the trigger that a subject stands for."""
    return subject.removeprefix(TRIGGER_PREFIX)


def feed(log: str) -> str:
    """Give the subject of a log's committed events."""
    return FEED_PREFIX + log


def epoch_consumer(epoch: int) -> str:
    """Name the consumer with which the owner of one epoch reads its inbox."""
    return f"{EPOCH_PREFIX}{epoch}"


def epoch_of(consumer: str) -> int | None:
    """Tell the epoch of an inbox's consumer; None for a consumer that somebody else made."""
    digits = consumer.removeprefix(EPOCH_PREFIX)
    return int(digits) if digits != consumer and digits.isdigit() else None


def api(verb: str, *names: str) -> str:
    """Give the subject of a request to JetStream's API."""
    return API + ".".join((verb, *names))


def _name(given: str) -> str:
    if not POOL_NAME.fullmatch(given):
        message = f"{given!r} cannot be part of a subject: letters, digits, '_' and '-', at most 64"
        raise ValidationError(message)
    return given


class Names:
    """The internal names of one incarnation."""

    def __init__(self, incarnation: str) -> None:
        self.token = token(incarnation)
        root = f"{ROOT}.{self.token}"
        self._root = root
        self.lines = f"{root}.lines"
        self.control = f"{root}.control"
        self.presence = f"{root}.presence"
        self.lines_stream = f"{ROOT}_{self.token}_lines"
        self.planners = f"planners_{self.token}"
        """The consumer of trigger events that all planners of this incarnation share."""

    def inbox(self, log: str, partition: int) -> str:
        """Give the subject of a partition's inbox."""
        return f"{self._root}.inbox.{log}.{partition}"

    def inbox_stream(self, log: str, partition: int) -> str:
        """Name the stream of a partition's inbox."""
        return f"{ROOT}_{self.token}_inbox_{log}_{partition}"

    def command(self, log: str, partition: int) -> str:
        """Give the subject on which a partition's owner is asked."""
        return f"{self._root}.command.{log}.{partition}"

    def claim(self, log: str, partition: int) -> str:
        """Give the subject on which a partition's owner is asked for permission to act."""
        return f"{self._root}.claim.{log}.{partition}"

    def ends(self, place: str) -> str:
        """Give the subject on which one process is told of ends that it waits for."""
        return f"{self._root}.ends.{_name(place)}"

    def work(self, pool: str) -> str:
        """Give the subject of a pool's work."""
        return f"{self._root}.work.{_name(pool)}"

    def work_stream(self, pool: str) -> str:
        """Name the stream of a pool's work."""
        return f"{ROOT}_{self.token}_work_{_name(pool)}"
