"""The arguments of one append: what it is made of, each kind as one array of composites or None where there is none (pure).

Everything says by `batch` (from 1) whom it belongs to. Arrays of composites cost half of what an array a column costs, on
both sides. What few appends hold goes by a function of its own, called around the other in the same statement.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec

from headrace import ids
from headrace.decider import AnyRow, Laid
from headrace.log import rows as projection
from headrace.log.checks import check_digest, check_home
from headrace.log.port import Batch
from headrace.log.tables import TABLES
from headrace.vocabulary import IDEMPOTENCY_KEPT_S

OFTEN: Final = ("runs", "steps")
"""The tables that nearly every append writes to."""
KEPT_MS: Final = int(IDEMPOTENCY_KEPT_S * 1000)
SELDOM: Final = tuple(name for name in TABLES if name not in OFTEN)
RUNS: Final = "runs"
"""The table whose rows are sent narrow once they stand."""
_moving = itemgetter(*(list(TABLES[RUNS].columns).index(name) for name in (*TABLES[RUNS].key, *TABLES[RUNS].moving)))


Rows = dict[str, tuple[list[int], list[projection.Values]]]


class Arguments(msgspec.Struct, frozen=True):
    """What `headrace.append` takes, and what `headrace.append_rest` takes besides: nothing when there is nothing."""

    most: list[Any]
    rest: list[Any]


def append_arguments(incarnation: str, batches: Sequence[Batch]) -> Arguments:
    """Lay out batches as the database takes them; raises DataError and ValidationError for what cannot be kept."""
    rows, moved = _rows(batches)
    most = [
        incarnation,
        [batch.log for batch in batches],
        [batch.partition for batch in batches],
        [batch.epoch for batch in batches],
        [batch.expected_position for batch in batches],
        _events(batches) or None,
        _answers(batches) or None,
        moved or None,
        *_kinds(rows, OFTEN),
        KEPT_MS,
    ]
    rest = [*_bodies(batches), *_kinds(rows, SELDOM)]
    return Arguments(most, rest if any(rest) else [])


def months_of(batches: Sequence[Batch]) -> list[int]:
    """Name the months of the streams that batches write to."""
    return sorted({ids.month_of(event.stream_id) for batch in batches for event in batch.events})


def _events(batches: Sequence[Batch]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for number, batch in enumerate(batches, 1):
        for stream_id in {event.stream_id for event in batch.events}:
            check_home(batch.partition, stream_id)
        found += [
            (
                number,
                position,
                ids.month_of(event.stream_id),
                event.stream_id,
                event.version,
                event.type,
                event.schema,
                event.workspace,
                event.at,
                event.data,
                event.meta,
            )
            for position, event in enumerate(batch.events, batch.expected_position + 1)
        ]
    return found


def _answers(batches: Sequence[Batch]) -> list[tuple[Any, ...]]:
    return [
        (number, projection.storable(one.key), one.request_digest, one.stream_id, one.answer)
        for number, batch in enumerate(batches, 1)
        for one in batch.answers
    ]


def _bodies(batches: Sequence[Batch]) -> list[Any]:
    """Give digests and bodies, in one order everywhere: two appends of the same bodies would wait for each other else."""
    bodies = dict(sorted({digest: body for batch in batches for digest, body in batch.blobs.items()}.items()))
    for digest, body in bodies.items():
        check_digest(digest, body)
    return [list(bodies) or None, list(bodies.values()) or None]


def _rows(batches: Sequence[Batch]) -> tuple[Rows, list[tuple[Any, ...]]]:
    """Give, by table, the batch of each row, and the row; and of the runs' rows that stand what may have changed."""
    found: Rows = {}
    moved: list[tuple[Any, ...]] = []
    for number, batch in enumerate(batches, 1):
        for name, rows in projection.newest(batch.rows).items():
            wholes = list(rows.values())
            if name == RUNS:
                new = _new(batch.rows)
                moved += [(number, *_moving(whole)) for key, whole in rows.items() if key not in new]
                wholes = [whole for key, whole in rows.items() if key in new]
            numbers, kept = found.setdefault(name, ([], []))
            numbers += [number] * len(wholes)
            kept += wholes
    return found, moved


def _new(rows: Sequence[AnyRow]) -> set[projection.Values]:
    """Name the runs of which one row at least does not say that it stands."""
    return {
        projection.key_of(RUNS, projection.values(row))
        for row in rows
        if row.table == RUNS and not (isinstance(row, Laid) and row.stands)
    }


def _kinds(rows: Rows, names: Sequence[str]) -> list[Any]:
    """Give two arrays a table: the batch of each row, and the row as a composite."""
    return [array or None for name in names for array in rows.get(name, ([], []))]
