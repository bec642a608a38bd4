"""The arguments of one append: what it is made of, each kind as one array of composites or None where there is none (pure).

Everything says by `batch` (from 1) whom it belongs to. Arrays of composites cost half of what an array a column costs, on
both sides. What few appends hold goes by a function of its own, called around the other in the same statement. What one
partition appends with a single step goes without arrays, as it is, by a function that has a place for each value.
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
LONE_EVENTS_MAX: Final = 2
LONE_STEPS_MAX: Final = 2
"""For how many events and steps' rows `headrace.append_lone` has places: a step's end and the next one's beginning."""
RUNS: Final = "runs"
"""The table whose rows are sent narrow once they stand."""
_moving = itemgetter(*(list(TABLES[RUNS].columns).index(name) for name in (*TABLES[RUNS].key, *TABLES[RUNS].moving)))


Rows = dict[str, tuple[list[int], list[projection.Values]]]


class Arguments(msgspec.Struct, frozen=True):
    """The query of an append by its name, what it takes, and how much of that are bodies."""

    query: str
    values: list[Any]
    body_bytes: int = 0


def append_arguments(incarnation: str, batches: Sequence[Batch]) -> Arguments:
    """Lay out batches as the database takes them; raises DataError and ValidationError for what cannot be kept."""
    if len(batches) == 1 and (alone := _lone(batches[0])) is not None:
        return Arguments("append_lone", [incarnation, *alone])
    return many_arguments(incarnation, batches)


def many_arguments(incarnation: str, batches: Sequence[Batch]) -> Arguments:
    """Lay out batches of any number and size."""
    rows, moved = _rows(batches)
    most = [
        incarnation,
        [batch.log for batch in batches],
        [batch.partition for batch in batches],
        [batch.epoch for batch in batches],
        [batch.expected_position for batch in batches],
        [event for number, batch in enumerate(batches, 1) for event in _events(number, batch)] or None,
        [answer for number, batch in enumerate(batches, 1) for answer in _answers(number, batch)] or None,
        moved or None,
        *_kinds(rows, OFTEN),
        KEPT_MS,
    ]
    bodies = _bodies(batches)
    rest = [list(bodies) or None, list(bodies.values()) or None, *_kinds(rows, SELDOM)]
    if not any(rest):
        return Arguments("append", most)
    return Arguments("append_all", most + rest, sum(len(body) for body in bodies.values()))


def months_of(batches: Sequence[Batch]) -> list[int]:
    """Name the months of the streams that batches write to."""
    return sorted({ids.month_of(event.stream_id) for batch in batches for event in batch.events})


def _lone(batch: Batch) -> list[Any] | None:
    """Lay out what one partition appends by itself; None if it is more than a step's worth, or of another kind."""
    if len(batch.events) > LONE_EVENTS_MAX or len(batch.answers) > 1 or batch.blobs:
        return None
    runs: list[projection.Values] = []
    steps: dict[projection.Values, projection.Values] = {}
    stands = True
    for row in batch.rows:
        if type(row) is not Laid or row.table not in OFTEN:
            return None
        if row.table == RUNS:
            runs.append(row.values)
            stands = stands and row.stands
        else:
            steps[row.values[:2]] = row.values
    if len(steps) > LONE_STEPS_MAX or any(run[0] != runs[0][0] for run in runs):
        return None
    run = runs[-1] if runs else None
    return [
        batch.log,
        batch.partition,
        batch.epoch,
        batch.expected_position,
        *_places(_events(1, batch), LONE_EVENTS_MAX),
        *_places(_answers(1, batch), 1),
        (1, *_moving(run)) if run is not None and stands else None,
        None if stands else run,
        *_places(list(steps.values()), LONE_STEPS_MAX),
        KEPT_MS,
    ]


def _places(found: list[Any], count: int) -> list[Any]:
    """Fill up to a number of places with None."""
    return found + [None] * (count - len(found))


def _events(number: int, batch: Batch) -> list[tuple[Any, ...]]:
    for stream_id in {event.stream_id for event in batch.events}:
        check_home(batch.partition, stream_id)
    return [
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


def _answers(number: int, batch: Batch) -> list[tuple[Any, ...]]:
    return [
        (number, projection.storable(one.key), one.request_digest, one.stream_id, one.answer) for one in batch.answers
    ]


def _bodies(batches: Sequence[Batch]) -> dict[str, bytes]:
    """Give bodies by digest, in one order everywhere: two appends of the same bodies would wait for each other else."""
    bodies = dict(sorted({digest: body for batch in batches for digest, body in batch.blobs.items()}.items()))
    for digest, body in bodies.items():
        check_digest(digest, body)
    return bodies


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
