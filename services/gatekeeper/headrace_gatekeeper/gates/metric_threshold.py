"""The gates `metric_threshold` and `jury_score`: a recorded number against a threshold (pure)."""

import math
import operator
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from headrace.ports.gate import Verdict
from headrace.vocabulary import PREVIEW_CHARS
from headrace_gatekeeper.gates.recorded import SHOWN_MAX, GateConfig, artifacts, error, failed, listed, passed

Operator = Literal[">=", ">", "<=", "<", "==", "!="]
COMPARE: Final[MappingProxyType[str, Callable[[float, float], bool]]] = MappingProxyType(
    {
        ">=": operator.ge,
        ">": operator.gt,
        "<=": operator.le,
        "<": operator.lt,
        "==": operator.eq,
        "!=": operator.ne,
    }
)
JURY_SCORE: Final = "jury_score"
JURY_SCORE_MAX: Final = 100


class MetricThresholdConfig(GateConfig):
    """Config of `metric_threshold`: the label of a metric artifact, and what its value must be."""

    metric: str = Field(min_length=1)
    operator: Operator
    threshold: float = Field(strict=True, allow_inf_nan=False)


class JuryScoreConfig(GateConfig):
    """Config of `jury_score`: a metric from 0 to 100 that is at least the threshold, unless `operator` says else."""

    metric: str = Field(default=JURY_SCORE, min_length=1)
    operator: Operator = ">="
    threshold: float = Field(strict=True, allow_inf_nan=False)

    @field_validator("threshold")
    @classmethod
    def _on_the_scale(cls, threshold: float) -> float:
        if not 0 <= threshold <= JURY_SCORE_MAX:
            message = f"a jury score goes from 0 to {JURY_SCORE_MAX}; {threshold:g} is outside"
            raise ValueError(message)
        return threshold


class MetricThreshold:
    """Passes when the metric recorded last under the label compares as asked; a missing one fails."""

    name, version, config = "metric_threshold", "1", MetricThresholdConfig

    def evaluate(self, evidence: dict[str, Any], config: MetricThresholdConfig) -> Verdict:
        """Judge; pure."""
        return _judge(evidence, config, is_score=config.metric == JURY_SCORE)


class JuryScore:
    """Passes when the jury's score compares as asked; one outside of 0 to 100 is an error, a missing one fails."""

    name, version, config = JURY_SCORE, "1", JuryScoreConfig

    def evaluate(self, evidence: dict[str, Any], config: JuryScoreConfig) -> Verdict:
        """Judge; pure."""
        return _judge(evidence, config, is_score=True)


def _judge(evidence: dict[str, Any], config: MetricThresholdConfig | JuryScoreConfig, *, is_score: bool) -> Verdict:
    metric = config.metric
    recorded = {str(artifact.get("label")): artifact.get("value") for artifact in artifacts(evidence, "metric")}
    if metric not in recorded:
        there = f"recorded metrics: {listed(list(recorded))}" if recorded else "no metric was recorded"
        return failed(f"metric {metric!r} not found ({there})", metrics=list(recorded)[:SHOWN_MAX])
    value = recorded[metric]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return error(f"metric {metric!r} is {str(value)[:PREVIEW_CHARS]!r}, which is not a number", metric=metric)
    if is_score and not 0 <= value <= JURY_SCORE_MAX:
        return error(f"{metric} is {value}, outside of 0 to {JURY_SCORE_MAX}", metric=metric, value=value)
    shown = {"metric": metric, "value": value, "operator": config.operator, "threshold": config.threshold}
    holds = COMPARE[config.operator](value, config.threshold)
    comparison = f"{config.operator} {_plain(config.threshold)}"
    if holds:
        return passed(f"{metric}: {value} is {comparison}", **shown)
    return failed(f"{metric}: {value} is not {comparison}", **shown)


def _plain(number: float) -> str:
    return str(int(number)) if number.is_integer() else str(number)


gate = MetricThreshold()
jury_score = JuryScore()
