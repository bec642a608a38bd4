"""Problems of a document, as lines that an editor can jump to (pure)."""

from collections.abc import Mapping
from typing import Any, Final

FILE: Final = "document_file"
"""The detail of an error that names which of several documents it is about."""


def line(problem: Mapping[str, Any], name: str = "") -> str:
    """Write one problem: `file:line:column: path: message`, as far as known."""
    place = ":".join(str(problem[part]) for part in ("line", "column") if problem.get(part))
    where = ":".join(part for part in (name, place) if part)
    path = str(problem.get("path") or problem.get("field") or "")
    told = " ".join(str(problem.get("message", "")).split())
    shown = told if not path or told.startswith(path) else f"{path}: {told}"
    return f"{where}: {shown}" if where else shown
