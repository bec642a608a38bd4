"""The arguments of one append: arrays, one a column, that say by `batch` (from 1) what belongs to whom (pure)."""

from collections.abc import Sequence
from typing import Any

from headrace import ids
from headrace.log import rows as projection
from headrace.log.checks import check_digest, check_home
from headrace.log.port import Batch
from headrace.log.tables import TABLES


def append_arguments(incarnation: str, batches: Sequence[Batch]) -> list[Any]:
    """Lay out batches as `headrace.append` takes them; raises DataError and ValidationError for what cannot be kept."""
    numbered = list(enumerate(batches, 1))
    events = [
        (number, position, event)
        for number, batch in numbered
        for position, event in enumerate(batch.events, batch.expected_position + 1)
    ]
    for number, _, event in events:
        check_home(batches[number - 1].partition, event.stream_id)
    answers = [(number, answer) for number, batch in numbered for answer in batch.answers]
    # in one order everywhere: two appends that bring the same bodies in different orders would wait for each other
    bodies = dict(sorted({digest: body for batch in batches for digest, body in batch.blobs.items()}.items()))
    for digest, body in bodies.items():
        check_digest(digest, body)
    return [
        incarnation,
        [batch.log for batch in batches],
        [batch.partition for batch in batches],
        [batch.epoch for batch in batches],
        [batch.expected_position for batch in batches],
        [number for number, _, _ in events],
        [position for _, position, _ in events],
        [ids.month_of(event.stream_id) for _, _, event in events],
        [event.stream_id for _, _, event in events],
        [event.version for _, _, event in events],
        [event.type for _, _, event in events],
        [event.schema for _, _, event in events],
        [event.workspace for _, _, event in events],
        [event.at for _, _, event in events],
        [event.data for _, _, event in events],
        [event.meta for _, _, event in events],
        [number for number, _ in answers],
        [projection.storable(answer.key) for _, answer in answers],
        [answer.request_digest for _, answer in answers],
        [answer.stream_id for _, answer in answers],
        [answer.answer for _, answer in answers],
        list(bodies),
        list(bodies.values()),
        *_rows(batches),
    ]


def months_of(batches: Sequence[Batch]) -> list[int]:
    """Name the months of the streams that batches write to."""
    return sorted({ids.month_of(event.stream_id) for batch in batches for event in batch.events})


def _rows(batches: Sequence[Batch]) -> list[Any]:
    """Give two arrays a table: the batch of each row, and the row as a composite."""
    numbers: dict[str, list[int]] = {name: [] for name in TABLES}
    wholes: dict[str, list[projection.Values]] = {name: [] for name in TABLES}
    for number, batch in enumerate(batches, 1):
        for name, rows in projection.newest(batch.rows).items():
            numbers[name] += [number] * len(rows)
            wholes[name] += rows.values()
    return [array for name in TABLES for array in (numbers[name], wholes[name])]
