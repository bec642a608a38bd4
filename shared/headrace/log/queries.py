"""The one loader of SQL: `queries.sql` and `keeping.sql`, each query under a heading `-- name --`."""

import re
from importlib.resources import files
from typing import Final

FILES: Final = ("queries.sql", "keeping.sql")
HEADING: Final = re.compile(r"^-- (\w+) --$", re.MULTILINE)


def load() -> dict[str, str]:
    """Read the queries by name; comments of a file stay with the query below them."""
    found: dict[str, str] = {}
    for file in FILES:
        parts = HEADING.split((files("headrace.log") / file).read_text())
        found |= {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    return found


QUERIES: Final = load()
