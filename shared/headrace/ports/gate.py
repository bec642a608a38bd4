"""The Gate port: a pure check over recorded evidence.

An example, whole:

    class IsFriday:
        name, version, config = "is_friday", "1", IsFridayConfig      # a pydantic model

        def evaluate(self, evidence: dict[str, Any], config: IsFridayConfig) -> Verdict:
            ok = evidence["trigger"].get("weekday") == 5
            return Verdict(outcome="passed" if ok else "failed", message="it is not Friday", evidence={})

Gates are found by the entry point group `headrace.gates`. Evidence holds only what is recorded: `artifacts` (type,
label, value, and `text` where a body is kept), `steps`, `trigger`, `variables`, `inputs`, `run`; so a rebuild gives the
same verdict. An exception becomes the outcome `error`, which never passes.
"""

from typing import Any, Protocol, runtime_checkable

import msgspec
from pydantic import BaseModel


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a gate says: an outcome of VOCABULARY, why, and on which evidence."""

    outcome: str
    message: str = ""
    evidence: dict[str, Any] = {}


@runtime_checkable
class Gate(Protocol):
    """A machine check."""

    name: str
    version: str
    config: type[BaseModel]

    def evaluate(self, evidence: dict[str, Any], config: Any) -> Verdict:
        """Judge; pure."""
        ...
