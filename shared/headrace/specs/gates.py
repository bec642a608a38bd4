"""What a gate's config must be, as far as it can be told before anything is recorded (pure).

A value with a template in it is judged when it is resolved, by the gate itself.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from headrace.expressions.near import hint
from headrace.expressions.template import OPEN
from headrace.specs import names
from headrace.specs.models import Gate

OPERATORS: Final = (">=", ">", "<=", "<", "==", "!=")
ARTIFACT_TYPES: Final = ("file", "url", "pr", "ticket", "metric", "diagnostics", "stdout", "stderr", "rows")
JURY_SCORE_MAX: Final = 100

Said = tuple[str, str]
"""A key of the config (empty: the whole) and what is wrong."""


def problems(gate: Gate, plug_ins: frozenset[str] = frozenset()) -> Iterator[Said]:
    """Say what is wrong with a gate; `plug_ins` are types known beside VOCABULARY's, whose config is not ours."""
    if gate.type in names.GATES_LATER:
        yield "type", f"gate type {gate.type!r} is not built yet; there are: {', '.join(names.GATES)}"
    elif gate.type in CHECKS:
        fields, check = CHECKS[gate.type]
        for key in gate.config:
            if key not in fields:
                yield key, f"unknown field {key!r} of the gate {gate.type}{hint(key, fields)}"
        yield from check(gate.config)
    elif gate.type not in plug_ins:
        yield "type", f"unknown gate {gate.type!r}{hint(gate.type, (*names.GATES, *plug_ins))}"


def _text(config: dict[str, Any], key: str, *, required: bool = True) -> Iterator[Said]:
    value = config.get(key)
    if value is None and not required:
        return
    if value is None:
        yield key, f"{key} is missing"
    elif not isinstance(value, str) or not value.strip():
        yield key, f"{key} must be a text that is not empty"


def _file_exists(config: dict[str, Any]) -> Iterator[Said]:
    yield from _text(config, "pattern")


def _content_check(config: dict[str, Any]) -> Iterator[Said]:
    yield from _text(config, "file")
    yield from _text(config, "pattern", required=False)
    sections = config.get("required_sections")
    if sections is None and config.get("pattern") is None:
        yield "", "content_check needs required_sections, pattern or both"
    elif sections is not None and not _templated(sections) and not _headings(sections):
        yield "required_sections", "required_sections must be a list of headings"


def _headings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value)


def _artifact_exists(config: dict[str, Any]) -> Iterator[Said]:
    yield from _text(config, "artifact_type")
    yield from _text(config, "label", required=False)
    kind = config.get("artifact_type")
    if isinstance(kind, str) and not _templated(kind) and kind not in ARTIFACT_TYPES:
        yield "artifact_type", f"unknown artifact type {kind!r}{hint(kind, ARTIFACT_TYPES)}"


def _metric_threshold(config: dict[str, Any]) -> Iterator[Said]:
    yield from _text(config, "metric")
    operator, threshold = config.get("operator"), config.get("threshold")
    if operator not in OPERATORS:
        yield "operator", f"operator must be one of {' '.join(OPERATORS)}, not {operator!r}"
    if _templated(threshold):
        return
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        yield "threshold", f"threshold must be a number, not {threshold!r}"
    elif config.get("metric") == names.JURY_SCORE and not 0 <= threshold <= JURY_SCORE_MAX:
        yield "threshold", f"a jury score is from 0 to {JURY_SCORE_MAX}, not {threshold}"


def _expression(config: dict[str, Any]) -> Iterator[Said]:
    yield from _text(config, "expression")


def _templated(value: Any) -> bool:
    return isinstance(value, str) and OPEN in value


CHECKS: Final[dict[str, tuple[frozenset[str], Callable[[dict[str, Any]], Iterator[Said]]]]] = {
    "file_exists": (frozenset({"pattern"}), _file_exists),
    "content_check": (frozenset({"file", "required_sections", "pattern"}), _content_check),
    "artifact_exists": (frozenset({"artifact_type", "label"}), _artifact_exists),
    "metric_threshold": (frozenset({"metric", "operator", "threshold"}), _metric_threshold),
    "expression": (frozenset({"expression"}), _expression),
}
