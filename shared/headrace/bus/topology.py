"""Which streams and consumers stand on NATS, as the bodies of JetStream's own API (pure).

Retention is by limits everywhere: work-queue retention has old defects (nats-server #5638, #7680, #5526). Triggers
alone are promised to users, so on one server they alone are synced to disk before the ack (`sync_interval: always` of the
server); every other stream may lose its tail and says so by `persist_mode: async` (nats-server 2.12 and later, for one copy).
In a cluster every stream has several copies, of which most hold a message before it is acknowledged.
"""

from typing import Any, Final

from headrace.bus import limits, subjects
from headrace.vocabulary import LOG_PARTITIONS

ASYNC_SINCE: Final = (2, 12)
REPLICAS_IN_A_CLUSTER: Final = 3
"""The fewest of which one may be away, and what JetStream's clusters are made of at least."""
NANOSECONDS: Final = 1_000_000_000
WAITING_MAX: Final = 8_192
"""Pull requests that may wait at one consumer: each worker of a pool has a few."""
STREAM_NAME_IN_USE: Final = 10058
CONSUMER_NOT_FOUND: Final = 10014
STREAM_NOT_FOUND: Final = 10059
MESSAGE_NOT_FOUND: Final = 10037
PROBE: Final = b'{"headrace":"probe"}'
"""What is written to a stream to see whether it takes writes: readers drop it, and elsewhere it says nothing."""

Body = dict[str, Any]


def stream(
    name: str,
    subject: str,
    *,
    age_s: float,
    size: int,
    full: str = "old",
    synced: bool = False,
    more: Body | None = None,
) -> Body:
    """Describe a stream; `full` says whether a full one drops the `old` or refuses the `new`."""
    body: Body = {
        "name": name,
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        "discard": full,
        "max_age": int(age_s * NANOSECONDS),
        "max_bytes": size,
        "num_replicas": 1,
        **(more or {}),
    }
    if not synced:
        body["persist_mode"] = "async"
    return body


def fit(body: Body, version: tuple[int, int], replicas: int = 1) -> Body:
    """Say how many copies of a stream there are; leave out what a server of this version, or a stream with copies, does not know."""
    if version >= ASYNC_SINCE and replicas == 1:
        return body
    return {**{key: value for key, value in body.items() if key != "persist_mode"}, "num_replicas": replicas}


def work_stream(names: subjects.Names, pool: str) -> Body:
    """Describe the stream of a pool's work: full, it drops the oldest, which owners publish again."""
    return stream(names.work_stream(pool), names.work(pool), age_s=limits.WORK_AGE_MAX_S, size=limits.WORK_BYTES_MAX)


def inbox_stream(names: subjects.Names, log: str, partition: int) -> Body:
    """Describe the inbox of a partition: full, it refuses."""
    return stream(
        names.inbox_stream(log, partition),
        names.inbox(log, partition),
        age_s=limits.INBOX_AGE_MAX_S,
        size=limits.INBOX_BYTES_MAX,
        full="new",
    )


def standing_streams(names: subjects.Names) -> list[Body]:
    """Describe the streams that every installation has."""
    return [
        stream(
            subjects.TRIGGER_STREAM,
            subjects.TRIGGERS,
            age_s=limits.TRIGGER_AGE_MAX_S,
            size=limits.TRIGGER_BYTES_MAX,
            full="new",
            synced=True,
            more={"duplicate_window": limits.TRIGGER_DUPLICATES_S * NANOSECONDS},
        ),
        stream(subjects.FEED_STREAM, subjects.FEEDS, age_s=limits.FEED_AGE_MAX_S, size=limits.FEED_BYTES_MAX),
        stream(names.lines_stream, names.lines, age_s=limits.LINES_AGE_MAX_S, size=limits.LINES_BYTES_MAX),
        *(inbox_stream(names, log, partition) for log, count in LOG_PARTITIONS.items() for partition in range(count)),
    ]


def may_be_remade(body: Body) -> bool:
    """Tell whether a stream may be thrown away with what is in it: all but the triggers, which are nowhere else."""
    return bool(body["name"] != subjects.TRIGGER_STREAM)


def must_be_remade(stands: Body, wanted: Body) -> bool:
    """Tell whether a stream cannot become what is wanted of it but by being made anew, and may be.

    One that is kept once says when it is synced, which one with replicas must not, and no server lets that be changed.
    """
    changes = stands.get("num_replicas") != wanted["num_replicas"] and 1 in {
        stands.get("num_replicas"),
        wanted["num_replicas"],
    }
    return changes and may_be_remade(wanted)


def probe(body: Body) -> tuple[str, bytes]:
    """Give the subject and the body with which a stream is tried; of the users' subjects ones that mean nothing."""
    if body["name"] == subjects.FEED_STREAM:
        return subjects.PROBE_FEED, b"[]"
    if body["name"] == subjects.TRIGGER_STREAM:
        return subjects.PROBE_TRIGGER, PROBE
    return str(body["subjects"][0]), PROBE


def shared_consumer(name: str) -> Body:
    """Describe a consumer whose readers settle each message by itself."""
    return _consumer(
        name,
        ack_policy="explicit",
        deliver_policy="all",
        ack_wait=int(limits.ACK_WAIT_S * NANOSECONDS),
        max_deliver=-1,
        max_ack_pending=-1,
    )


def work_consumer() -> Body:
    """Describe the consumer of a pool: an order is handed out once.

    Made anew beside a stream that stands, it begins behind what is there: what it skips counts as passed and is
    published again by the owner if nobody holds it, whereas old orders delivered again would flood the workers.
    """
    return _consumer(subjects.READERS, ack_policy="none", deliver_policy="new")


def epoch_consumer(epoch: int, first: int, replicas: int = 1) -> Body:
    """Describe the consumer with which the owner of an epoch reads its inbox from sequence `first` on.

    The server keeps how far it has come in memory: in a file it would be written anew for nearly every message, which was
    a fifth of the server's CPU where one run comes at a time. After a restart of the server all comes again that is not
    purged, as it does to an owner that lived through the restart. In a cluster a server that came back would know nothing of
    it, and with another one gone nobody could lead it any more: there it is kept in files.
    """
    return _consumer(
        subjects.epoch_consumer(epoch),
        ack_policy="all",
        deliver_policy="by_start_sequence",
        opt_start_seq=first,
        ack_wait=int(limits.ACK_WAIT_S * NANOSECONDS),
        max_deliver=-1,
        max_ack_pending=limits.INBOX_UNSETTLED_MAX,
        mem_storage=replicas == 1,
    )


def _consumer(name: str, **more: Any) -> Body:
    return {"name": name, "durable_name": name, "max_waiting": WAITING_MAX, "replay_policy": "instant", **more}
