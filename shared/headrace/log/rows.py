"""Projection rows in the order of their table's columns, made storable (pure); both twins keep exactly this.

A row is whole: a column that it does not name is null. JSON columns are kept as text, so that what a database cannot
hold in a text (NUL, a lone surrogate) stays there as its escape. In text columns NUL becomes U+2400 and a lone
surrogate U+FFFD: a projection is for reading, and the event keeps the bytes.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from headrace import codec
from headrace.codec import Raw
from headrace.decider import AnyRow, Laid, Row
from headrace.errors import ValidationError
from headrace.log.port import After, DataError
from headrace.log.tables import OF_A_RUN, TABLES, Table

storable: Final = codec.storable
BETWEEN_TEXTS: Final = frozenset({",", ":"})
"""What stands between two texts of a document, quotes aside."""
INT_MAX: Final = {"int": 2**31 - 1, "bigint": 2**63 - 1}
Values = tuple[Any, ...]
Place = tuple[bool, Any, str]
KEY_PLACES: Final = {
    name: tuple(list(table.columns).index(column) for column in table.key) for name, table in TABLES.items()
}


def table_of(name: str) -> Table:
    """Give a table; raises ValidationError for a name that is none."""
    table = TABLES.get(name)
    if table is None:
        message = f"no table {name!r}; there are {', '.join(TABLES)}"
        raise ValidationError(message)
    return table


def values(row: AnyRow) -> Values:
    """Give a row's values in the order of its table's columns; raises DataError for what does not fit."""
    if type(row) is Laid:
        return row.values
    assert isinstance(row, Row), "there is no third kind"
    table = TABLES.get(row.table)
    if table is None or not row.columns.keys() <= table.columns.keys():
        unknown = sorted(row.columns.keys() - table.columns.keys()) if table else "the table itself"
        message = f"row of {row.table!r} names what its table has not: {unknown}"
        raise DataError(message)
    get = row.columns.get
    for column in table.key:
        if get(column) is None:
            message = f"row of {row.table!r} lacks its key: {', '.join(table.key)}"
            raise DataError(message)
    whole: list[Any] = []
    for name, kind in table.columns.items():
        value = get(name)
        fits = value is None or (kind == "text" and type(value) is str and value.isascii() and "\x00" not in value)
        if type(value) is int:
            fits = abs(value) <= INT_MAX.get(kind, -1)
        whole.append(value if fits else _value(row.table, name, kind, value))
    return tuple(whole)


def key_of(name: str, whole: Values) -> tuple[Any, ...]:
    """Give the key of a row's values."""
    return tuple([whole[place] for place in KEY_PLACES[name]])


def shown(name: str, whole: Values) -> dict[str, Any]:
    """Give a kept row as readers meet it: JSON columns decoded."""
    kinds = TABLES[name].columns
    return {
        column: codec.loads(value) if kind == "json" and value is not None else value
        for (column, kind), value in zip(kinds.items(), whole, strict=True)
    }


def newest(rows: Iterable[AnyRow]) -> dict[str, dict[tuple[Any, ...], Values]]:
    """Sort rows by table and key; of two with one key the later stands."""
    tables: dict[str, dict[tuple[Any, ...], Values]] = {}
    for row in rows:
        whole = values(row)
        tables.setdefault(row.table, {})[key_of(row.table, whole)] = whole
    return tables


def check_laid(rows: Iterable[AnyRow]) -> None:
    """Hold rows to what their rooms promised of them, as a database would; raises DataError."""
    for row in rows:
        if isinstance(row, Laid):
            _check_laid(row)


def _check_laid(row: Laid) -> None:
    if len(row.values) != len(TABLES[row.table].columns) or None in key_of(row.table, row.values):
        message = f"row of {row.table!r} is not laid out as its table: {row.values}"
        raise DataError(message)
    for (name, kind), value in zip(TABLES[row.table].columns.items(), row.values, strict=True):
        if kind == "json" and value is not None:
            codec.loads(value)
        elif _value(row.table, name, kind, value) != value:
            message = f"{row.table}.{name} is not storable: {value!r}"
            raise DataError(message)


def stream_column(name: str) -> str:
    """Name the column that holds the stream a row belongs to."""
    return "run_id" if "run_id" in TABLES[name].columns else TABLES[name].key[0]


def filtered(name: str, where: Mapping[str, Any], order: str) -> Table:
    """Check the columns that a reader names; raises ValidationError."""
    table = table_of(name)
    for column in (*where, order):
        if column not in table.columns:
            message = f"table {name!r} has no column {column!r}"
            raise ValidationError(message)
        if table.columns[column] != "json":
            continue
        if column == order or not isinstance(where[column], Mapping) or not where[column]:
            message = f"column {column!r} of table {name!r} holds documents: rows cannot be found or ordered by it"
            raise ValidationError(message)
        members(where[column])
    return table


def place(value: Any, key: str) -> Place:
    """Give a row's place in the order of one of its columns: empty ones lowest, then by the last key column."""
    return value is not None, value, key


def place_after(name: str, where: Mapping[str, Any], order: str, after: str | After | None) -> Place | None:
    """Give the place after which a reader goes on; raises ValidationError for a cursor that names none."""
    table = table_of(name)
    *before, last = table.key
    if after is None:
        return None
    if order == last:
        key = storable(after if isinstance(after, str) else after.key)
        return place(key, key)
    if isinstance(after, str) or not all(isinstance(where.get(column), str) for column in before):
        message = f"a cursor over {name!r} by {order!r} needs {', '.join((*before, order))} to be given"
        raise ValidationError(message)
    try:
        return place(_value(name, order, table.columns[order], after.value), storable(after.key))
    except DataError as problem:
        raise ValidationError(str(problem)) from problem


def members(wanted: Mapping[str, str]) -> list[tuple[str, str]]:
    """Write each name with its text as they stand first, or later, in a flat document as it is kept.

    Quotes within texts are escaped there, so a quote is followed by what goes on after a text: by a name only if that is
    all that stands between two texts. Elsewhere such a name could be met where it is none; raises ValidationError for it.
    """
    found = []
    for name, text in wanted.items():
        if name in BETWEEN_TEXTS:
            message = f"rows cannot be found by the name {name!r}: it stands between any two texts of a document"
            raise ValidationError(message)
        one = codec.written({name: text})[1:-1]
        found.append((f"{{{one}", f",{one}"))
    return found


def _value(table: str, column: str, kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "json":
        return bytes(value).decode() if isinstance(value, Raw) else codec.dumps(value).decode()
    if kind == "text" and isinstance(value, str):
        return storable(value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind in INT_MAX and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= INT_MAX[kind]:
        return value
    message = f"{table}.{column} is {kind}, and {value!r} does not fit"
    raise DataError(message)


def purge(tables: dict[str, dict[tuple[Any, ...], Values]], run_id: str) -> None:
    """Take the rows of a purged run out of tables in memory."""
    for name, column in OF_A_RUN.items():
        at = list(TABLES[name].columns).index(column)
        for key in [key for key, row in tables[name].items() if row[at] == run_id]:
            del tables[name][key]
