"""The one loader of SQL: `queries.sql`, each query under a heading `-- name --`."""

import re
from importlib.resources import files
from typing import Final

HEADING: Final = re.compile(r"^-- (\w+) --$", re.MULTILINE)


def load() -> dict[str, str]:
    """Read the queries by name; comments of the file stay with the query below them."""
    parts = HEADING.split((files("headrace.log") / "queries.sql").read_text())
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


QUERIES: Final = load()
