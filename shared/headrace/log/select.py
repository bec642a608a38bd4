"""Queries over a projection table, put together from the templates of `queries.sql` and checked names (pure)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace.log import rows as projection
from headrace.log.port import After
from headrace.log.queries import QUERIES
from headrace.log.tables import TABLES

SQL_TYPES: Final = {"text": "text", "int": "int", "bigint": "bigint", "bool": "boolean", "json": "json"}
LOWEST: Final = {"text": "''", "int": "0", "bigint": "0", "bool": "false"}


def rows_query(
    table: str,
    where: Mapping[str, Any],
    *,
    order: str,
    descending: bool,
    after: str | After | None,
    limit: int,
) -> tuple[str, list[Any]]:
    """Make the query of `ReadLog.rows` and its arguments; raises ValidationError for names that are none."""
    known = projection.filtered(table, where, order)
    values: list[Any] = []
    conditions = [_condition(known.columns[name], name, wanted, values) for name, wanted in where.items()]
    kind, tail = known.columns[order], known.key[-1]
    place = _place(kind, _quoted(order), _quoted(tail))
    seen = projection.place_after(table, where, order, after)
    if seen is not None:
        _, value, key = seen
        values += [key] if order == tail else [value, key]
        last = f"${len(values)}::{SQL_TYPES['text']}"
        at = _place(kind, last if order == tail else f"${len(values) - 1}::{SQL_TYPES[kind]}", last)
        conditions.append(f"({', '.join(place)}) {'<' if descending else '>'} ({', '.join(at)})")
    direction = "desc" if descending else "asc"
    values.append(limit)
    sql = QUERIES["rows"].format(
        columns=", ".join(map(_quoted, known.columns)),
        table=table,
        conditions=" and ".join(conditions) or "true",
        order=", ".join(f"{part} {direction}" for part in place),
        limit=f"${len(values)}",
    )
    return sql, values


def count_query(table: str, where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Make the query of `ReadLog.count` and its arguments; raises ValidationError for names that are none."""
    known = projection.filtered(table, where, projection.table_of(table).key[-1])
    values: list[Any] = []
    conditions = [_condition(known.columns[name], name, wanted, values) for name, wanted in where.items()]
    return QUERIES["count"].format(table=table, conditions=" and ".join(conditions) or "true"), values


def standing_query(table: str, streams: Sequence[str]) -> tuple[str, list[Any]]:
    """Make the query that reads all rows of streams."""
    values: list[Any] = []
    column = projection.stream_column(table)
    conditions = _condition("text", column, list(streams), values)
    names = ", ".join(map(_quoted, TABLES[table].columns))
    sql = QUERIES["rows"].format(columns=names, table=table, conditions=conditions, order=_quoted(column), limit="all")
    return sql, values


def drop_query(table: str, keys: Sequence[projection.Values]) -> tuple[str, list[list[Any]]]:
    """Make the query that drops rows by key; its first three arguments name the tenure, the rest are key columns."""
    known = TABLES[table]
    arrays = ", ".join(f"${n}::{SQL_TYPES[known.columns[name]]}[]" for n, name in enumerate(known.key, 4))
    names = ", ".join(f"t.{_quoted(name)}" for name in known.key)
    picked = QUERIES["picked"].format(arrays=arrays)
    sql = QUERIES["drop_rows"].format(table=table, conditions=f"({names}) in ({picked})")
    return sql, [list(column) for column in zip(*keys, strict=True)]


def _condition(kind: str, name: str, wanted: Any, values: list[Any]) -> str:
    if isinstance(wanted, Mapping):
        return _has(name, wanted, values)
    if wanted is None:
        return f"{_quoted(name)} is null"
    several = isinstance(wanted, list | tuple | set | frozenset)
    given = [projection.storable(one) if isinstance(one, str) else one for one in (wanted if several else [wanted])]
    values.append(given if several else given[0])
    return f"{_quoted(name)} = " + (f"any(${len(values)}::{SQL_TYPES[kind]}[])" if several else f"${len(values)}")


def _has(name: str, wanted: Mapping[str, str], values: list[Any]) -> str:
    """Look for each text in the document as it is kept: a text that the database cannot unescape spoils no query.

    No index serves this, on purpose: docs/performance.md ("an index for labels") has what each kind of one costs.
    """
    found = []
    for first, later in projection.members(wanted):
        values += [first, later]
        found += [
            f"(strpos({_quoted(name)}::text, ${len(values) - 1}) = 1 or strpos({_quoted(name)}::text, ${len(values)}) > 0)"
        ]
    return " and ".join(found)


def _place(kind: str, order: str, tail: str) -> list[str]:
    """Order by a column, empty ones lowest, then by the last key column, so that the order is total."""
    if order == tail:
        return [tail]
    return [f"({order} is not null)", f"coalesce({order}, {LOWEST[kind]})", tail]


def _quoted(name: str) -> str:
    return f'"{name}"'
