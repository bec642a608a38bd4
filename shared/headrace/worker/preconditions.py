"""Preconditions: what must hold on the real thing just before a tool is called.

Three forms are known: `file exists PATH`, `file missing PATH`, `directory exists PATH`, relative to the file root.
Anything else is refused: a condition that nobody can check does not hold.
"""

import re
from typing import Any, Final

from headrace.errors import PreconditionFailedError
from headrace.worker.file_root import FileRoot

FORM: Final = re.compile(r"\s*(?P<kind>file|directory)\s+(?P<state>exists|missing)\s+(?P<path>\S.*?)\s*")


def check(precondition: Any, root: FileRoot) -> None:
    """Raise PreconditionFailedError unless the condition is known and holds now; a list means all of them."""
    if precondition is None:
        return
    for condition in precondition if isinstance(precondition, list) else [precondition]:
        _check_one(condition, root)


def _check_one(condition: Any, root: FileRoot) -> None:
    form = FORM.fullmatch(condition) if isinstance(condition, str) else None
    if form is None or (form["kind"], form["state"]) == ("directory", "missing"):
        message = f"unknown precondition {condition!r}: use 'file exists PATH', 'file missing PATH' or 'directory exists PATH'"
        raise PreconditionFailedError(message, details={"precondition": condition})
    found = root.kind(form["path"])
    expected = "missing" if form["state"] == "missing" else form["kind"]
    if found != expected:
        message = f"precondition {condition!r} does not hold: {form['path']!r} is {found}"
        raise PreconditionFailedError(message, details={"precondition": condition, "found": found})
