"""Gates judge recorded artifacts and events, and never pass on an error."""

from importlib.metadata import entry_points
from typing import Any

import pydantic
import pytest

from headrace.ports.gate import Gate, Verdict
from headrace_gatekeeper.gates import artifact_exists, content_check, expression, file_exists, metric_threshold
from headrace_gatekeeper.gates.glob import matches
from headrace_gatekeeper.gates.headings import headings


def judge(gate: Any, evidence: dict[str, Any], **config: Any) -> Verdict:
    verdict = gate.evaluate(evidence, gate.config.model_validate(config))
    assert isinstance(verdict, Verdict)
    return verdict


def recorded(*artifacts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"artifacts": list(artifacts), "steps": {}, "trigger": {}, "variables": {}, "inputs": {}, "run": {}} | more


def file(path: str, text: str | None = None) -> dict[str, Any]:
    found = {"type": "file", "label": "a file", "value": path}
    return found if text is None else found | {"text": text}


def metric(name: str, value: Any) -> dict[str, Any]:
    return {"type": "metric", "label": name, "value": value}


def test_a_pattern_without_a_slash_matches_the_file_name_at_any_depth() -> None:
    """Row 18."""
    verdict = judge(file_exists.gate, recorded(file("initiatives/test/prd.md")), pattern="prd.md")
    assert verdict.outcome == "passed"
    assert verdict.evidence == {"files": ["initiatives/test/prd.md"]}


def test_a_file_that_was_not_recorded_fails_and_says_what_was() -> None:
    """Row 19 (the gate's own failure message stands on the step, in the run's decider)."""
    verdict = judge(file_exists.gate, recorded(file("research.md")), pattern="prd.md")
    assert verdict.outcome == "failed"
    assert verdict.message == "no file matches 'prd.md' (recorded files: research.md)"


def test_nothing_recorded_fails() -> None:
    assert judge(file_exists.gate, recorded(), pattern="**").outcome == "failed"
    assert judge(file_exists.gate, {}, pattern="prd.md").outcome == "failed"


def test_an_artifact_of_another_type_is_no_file() -> None:
    other = {"type": "url", "label": "prd.md", "value": "prd.md"}
    assert judge(file_exists.gate, recorded(other), pattern="prd.md").outcome == "failed"


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("**/*.stories.tsx", "components/Button/Button.stories.tsx", True),
        ("**/*.stories.tsx", "components/Button/Button.tsx", False),
        ("**/*.stories.tsx", "Button.stories.tsx", True),
        ("docs/*.md", "docs/a.md", True),
        ("docs/*.md", "docs/deep/a.md", False),
        ("docs/**", "docs/deep/a.md", True),
        ("docs/**", "docs", False),
        ("docs/**/a.md", "docs/a.md", True),
        ("docs/**/a.md", "docs/x/y/a.md", True),
        ("docs/**/a.md", "other/a.md", False),
        ("**", "any/where.txt", True),
        ("a?.md", "x/ab.md", True),
        ("a?.md", "x/abc.md", False),
        ("[ab].md", "b.md", True),
        ("[!ab].md", "b.md", False),
        ("./docs/a.md", "docs/a.md", True),
        ("*.md", "A.MD", False),
        ("**/x/**/y", "x/x/y", True),
        ("**/x/**/y", "a/x/b/c/y", True),
        ("**/x/**/y", "a/b/c/y", False),
        ("a.md", "aXmd", False),
    ],
)
def test_globs_mean_what_they_say(pattern: str, path: str, fits: bool) -> None:  # noqa: FBT001  (samples of a table)
    """Row 20."""
    assert matches(pattern, path) is fits


def test_a_pattern_of_many_stars_does_not_take_for_ever() -> None:
    assert not matches("/".join(["**"] * 40 + ["*a*" * 60]), "/".join(["b" * 80] * 40))


def test_the_file_recorded_last_stands_for_its_path() -> None:
    evidence = recorded(file("r.md", "# Old"), file("r.md", "# New"))
    assert judge(content_check.gate, evidence, file="r.md", required_sections=["New"]).outcome == "passed"
    assert judge(content_check.gate, evidence, file="r.md", required_sections=["Old"]).outcome == "failed"


REPORT = """Intro
=====

## Goals and *Scope* ##

### `Risks`

```
# Not a heading
```

text #hashtag
"""


def test_headings_of_any_level_and_case_count_and_code_does_not() -> None:
    assert list(headings(REPORT)) == ["intro", "goals and scope", "risks"]


def test_required_sections_are_found_whatever_their_level_or_case() -> None:
    evidence = recorded(file("docs/report.md", REPORT))
    found = judge(content_check.gate, evidence, file="report.md", requiredSections=["INTRO", "## goals and scope"])
    assert found.outcome == "passed"
    missing = judge(content_check.sections_exist, evidence, file="report.md", required_sections=["Risks", "Costs"])
    assert missing.outcome == "failed"
    assert missing.message == "docs/report.md has no section Costs"


def test_a_heading_in_a_code_block_is_none() -> None:
    evidence = recorded(file("r.md", REPORT))
    assert judge(content_check.gate, evidence, file="r.md", required_sections=["Not a heading"]).outcome == "failed"


def test_a_pattern_is_searched_in_the_text() -> None:
    evidence = recorded(file("r.md", "total: 12 files"))
    assert judge(content_check.gate, evidence, file="r.md", pattern=r"total: \d+").outcome == "passed"
    assert judge(content_check.gate, evidence, file="r.md", pattern=r"^12").outcome == "failed"


def test_a_pattern_that_would_take_for_ever_elsewhere_is_answered() -> None:
    evidence = recorded(file("r.md", "a" * 100_000 + "!"))
    assert judge(content_check.gate, evidence, file="r.md", pattern="(a+)+$").outcome == "failed"


def test_every_file_that_matches_must_have_what_is_asked_for() -> None:
    evidence = recorded(file("a/r.md", "# One"), file("b/r.md", "# Two"))
    verdict = judge(content_check.gate, evidence, file="r.md", required_sections=["One"])
    assert (verdict.outcome, verdict.evidence["file"]) == ("failed", "b/r.md")


def test_a_file_whose_text_was_not_recorded_is_an_error() -> None:
    verdict = judge(content_check.gate, recorded(file("r.md")), file="r.md", required_sections=["One"])
    assert verdict.outcome == "error"


def test_artifacts_are_found_by_type_and_a_part_of_their_label() -> None:
    """Row 22."""
    evidence = recorded({"type": "url", "label": "Chromatic Preview", "value": "https://example.org"})
    assert judge(artifact_exists.gate, evidence, artifact_type="url", label="Chromatic").outcome == "passed"
    assert judge(artifact_exists.gate, evidence, artifactType="url").outcome == "passed"
    assert judge(artifact_exists.gate, evidence, artifact_type="url", label="Figma").outcome == "failed"
    missing = judge(artifact_exists.gate, evidence, artifact_type="pr")
    assert (missing.outcome, missing.message) == ("failed", "PR not found")


@pytest.mark.parametrize(
    ("gate", "name", "value", "config", "outcome"),
    [
        ("jury_score", "jury_score", 85, {"threshold": 70}, "passed"),
        ("jury_score", "jury_score", 55, {"threshold": 70}, "failed"),
        ("metric_threshold", "count", 5, {"metric": "count", "operator": "<", "threshold": 10}, "passed"),
        ("metric_threshold", "count", 5, {"metric": "count", "operator": "==", "threshold": 5}, "passed"),
        ("metric_threshold", "count", 5, {"metric": "count", "operator": "!=", "threshold": 5}, "failed"),
        ("metric_threshold", "count", 5, {"metric": "count", "operator": ">", "threshold": 5}, "failed"),
        ("metric_threshold", "count", 5, {"metric": "count", "operator": "<=", "threshold": 5}, "passed"),
        ("metric_threshold", "other", 5, {"metric": "count", "operator": "<=", "threshold": 5}, "failed"),
        ("metric_threshold", "count", "5", {"metric": "count", "operator": "<=", "threshold": 5}, "error"),
        ("metric_threshold", "count", True, {"metric": "count", "operator": "<=", "threshold": 5}, "error"),
        ("metric_threshold", "count", float("inf"), {"metric": "count", "operator": ">", "threshold": 5}, "error"),
        ("jury_score", "jury_score", 850, {"threshold": 70}, "error"),
    ],
)
def test_a_metric_is_compared(gate: str, name: str, value: Any, config: dict[str, Any], outcome: str) -> None:
    """Row 23."""
    which = metric_threshold.jury_score if gate == "jury_score" else metric_threshold.gate
    assert judge(which, recorded(metric(name, value)), **config).outcome == outcome


def test_the_message_says_what_was_found() -> None:
    """Row 23."""
    verdict = judge(metric_threshold.jury_score, recorded(metric("jury_score", 55)), threshold=70)
    assert verdict.message == "jury_score: 55 is not >= 70"


def test_a_missing_metric_fails_and_names_those_there_are() -> None:
    verdict = judge(metric_threshold.gate, recorded(metric("cost", 1)), metric="count", operator=">=", threshold=0)
    assert verdict.message == "metric 'count' not found (recorded metrics: cost)"


def test_an_expression_speaks_of_steps_trigger_variables_and_run() -> None:
    evidence = recorded(
        steps={"gather": {"output": [1, 2], "status": "succeeded"}}, trigger={"source": "github"}, variables={"n": 2}
    )
    text = "size(steps.gather.output) == variables.n && trigger.source in ['github']"
    assert judge(expression.gate, evidence, expression=text).outcome == "passed"
    verdict = judge(expression.custom, evidence, expression="size(steps.gather.output) > 2")
    assert (verdict.outcome, verdict.message) == ("failed", "'size(steps.gather.output) > 2' is false")


@pytest.mark.parametrize(
    "text", ["variables.n", "variables.missing > 1", "variables.n + 'a' == 'a'", "steps.no.output"]
)
def test_an_expression_that_gives_no_answer_never_passes(text: str) -> None:
    verdict = judge(expression.gate, recorded(variables={"n": 1}), expression=text)
    assert verdict.outcome == "error"
    assert verdict.message


@pytest.mark.parametrize(
    ("gate", "config"),
    [
        (file_exists.gate, {}),
        (file_exists.gate, {"pattern": " "}),
        (file_exists.gate, {"pattern": "docs/"}),
        (file_exists.gate, {"pattern": "a", "patern": "b"}),
        (content_check.gate, {"file": "a.md"}),
        (content_check.gate, {"file": "a.md", "pattern": "("}),
        (content_check.gate, {"file": "a.md", "required_sections": [""]}),
        (artifact_exists.gate, {"artifact_type": "thing"}),
        (metric_threshold.gate, {"metric": "m", "operator": "=>", "threshold": 1}),
        (metric_threshold.gate, {"metric": "m", "operator": ">=", "threshold": "70"}),
        (metric_threshold.gate, {"metric": "m", "operator": ">=", "threshold": float("nan")}),
        (metric_threshold.jury_score, {"threshold": 101}),
        (expression.gate, {"expression": "1 +"}),
    ],
)
def test_a_bad_config_is_refused(gate: Any, config: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        gate.config.model_validate(config)


def test_every_gate_is_found_by_its_entry_point() -> None:
    found = {point.name: point.load() for point in entry_points(group="headrace.gates")}
    assert {"file_exists", "content_check", "artifact_exists", "metric_threshold", "expression"} <= set(found)
    for name, gate in found.items():
        assert isinstance(gate, Gate)
        assert gate.name == name
        assert gate.config.model_json_schema()["type"] == "object"
