"""The cursors of lists: each holds what it takes to go on, so that the row before it may have moved or gone (pure).

A list in the order of ids goes on after an id. One in another order goes on after `<id>.<what the row was ordered by>`,
the latter as JSON in base64url. The id alone was its cursor before; it is read while that row stands.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from headrace import codec, errors, ids
from headrace.log.port import After
from headrace.log.rows import INT_MAX
from headrace.log.tables import TABLES

PREFIXES: Final = {"runs": ids.RUN, "children": ids.RUN, "approvals": ids.APPROVAL, "artifacts": ids.ARTIFACT}
"""What the ids begin with of which lists are in order."""
OF_THE_PAGE_BEFORE: Final = "the `next_cursor` of the page before"


def no_cursor(given: str, expected: str = OF_THE_PAGE_BEFORE, field: str = "cursor") -> errors.ValidationError:
    """Make the error of a cursor that no page of this list gave."""
    message = f"{given!r} is no cursor of this list: expected {expected}"
    return errors.ValidationError(f"{field}: {message}", details={"problems": [{"field": field, "message": message}]})


def number(cursor: str, most: int, expected: str) -> int:
    """Read a cursor that is a number, at most so great; raises ValidationError that says what was `expected`."""
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > len(str(most)) or int(cursor) > most:
        raise no_cursor(cursor, expected)
    return int(cursor)


def written(table: str, row: Mapping[str, Any], order: str) -> str:
    """Write the cursor that goes on after a row of a list in the order of a column."""
    key = TABLES[table].key[-1]
    if order == key:
        return str(row[key])
    value = base64.urlsafe_b64encode(codec.dumps(row[order])).decode().rstrip("=")
    return f"{row[key]}.{value}"


def by_id(table: str, cursor: str) -> str:
    """Read a cursor of a list in the order of ids; raises ValidationError for what is no id of such a row."""
    try:
        ids.number(cursor)
    except errors.ValidationError as problem:
        raise no_cursor(cursor) from problem
    if cursor.partition("_")[0] != PREFIXES[table]:
        raise no_cursor(cursor)
    return cursor


def by_value(table: str, order: str, cursor: str) -> After | None:
    """Read a cursor of a list in another order; None for one that holds an id alone. Raises ValidationError."""
    key, dot, value = cursor.partition(".")
    if not dot:
        return None
    try:
        ids.number(key)
        known = codec.loads(base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True))
    except (errors.ValidationError, binascii.Error, ValueError) as problem:
        raise no_cursor(cursor) from problem
    kind = TABLES[table].columns[order]
    fits = isinstance(known, str) if kind == "text" else type(known) is int and abs(known) <= INT_MAX[kind]
    if not fits:
        raise no_cursor(cursor)
    return After(key, known)
