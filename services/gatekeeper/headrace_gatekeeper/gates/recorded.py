"""Reading recorded evidence: which artifacts there are, and how a gate's config may be spelled (pure)."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from headrace.ports.gate import Verdict
from headrace.vocabulary import Outcome

SHOWN_MAX: Final = 20
"""How many names a message or a verdict's evidence lists."""


class GateConfig(BaseModel):
    """What every gate's config keeps to: unknown fields are refused, the older camelCase spellings are accepted."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, frozen=True)


def artifacts(evidence: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    """Give the recorded artifacts of a type, in the order in which they were recorded."""
    for artifact in evidence.get("artifacts") or ():
        if artifact.get("type") == kind:
            yield artifact


def path_of(artifact: dict[str, Any]) -> str:
    """Give the path of a file artifact: its value, or its label where no value was kept; `/` between folders."""
    value = artifact.get("value")
    path = value if isinstance(value, str) and value else str(artifact.get("label") or "")
    return path.replace("\\", "/").removeprefix("./")


def files(evidence: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Give the file artifacts by path; the one recorded last stands for its path."""
    return {path_of(artifact): artifact for artifact in artifacts(evidence, "file")}


def passed(message: str, **evidence: Any) -> Verdict:
    """Say that the check holds."""
    return Verdict(outcome=Outcome.PASSED.value, message=message, evidence=evidence)


def failed(message: str, **evidence: Any) -> Verdict:
    """Say that the check does not hold."""
    return Verdict(outcome=Outcome.FAILED.value, message=message, evidence=evidence)


def error(message: str, **evidence: Any) -> Verdict:
    """Say that the check could not be made; it does not pass."""
    return Verdict(outcome=Outcome.ERROR.value, message=message, evidence=evidence)


def listed(names: list[str]) -> str:
    """Write names as people read them, the first of many."""
    rest = len(names) - SHOWN_MAX
    return ", ".join(names[:SHOWN_MAX]) + (f" and {rest} more" if rest > 0 else "")
