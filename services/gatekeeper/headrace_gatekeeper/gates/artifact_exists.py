"""The gate `artifact_exists`: an artifact of a type, and perhaps of a label, was recorded (pure)."""

from typing import Any, Final, Literal

from pydantic import AliasChoices, Field

from headrace.ports.gate import Verdict
from headrace_gatekeeper.gates.recorded import SHOWN_MAX, GateConfig, artifacts, failed, listed, passed

ArtifactType = Literal["file", "url", "pr", "ticket", "metric", "diagnostics", "stdout", "stderr", "rows"]
ABBREVIATIONS: Final = frozenset({"pr", "url"})


class ArtifactExistsConfig(GateConfig):
    """Config of `artifact_exists`; `label` is a part of the artifact's label, its case counts."""

    artifact_type: ArtifactType = Field(validation_alias=AliasChoices("artifact_type", "artifactType"))
    label: str | None = None


class ArtifactExists:
    """Passes when at least one artifact of the type was recorded whose label contains `label`."""

    name, version, config = "artifact_exists", "1", ArtifactExistsConfig

    def evaluate(self, evidence: dict[str, Any], config: ArtifactExistsConfig) -> Verdict:
        """Judge; pure."""
        labels = [str(artifact.get("label") or "") for artifact in artifacts(evidence, config.artifact_type)]
        found = [label for label in labels if config.label is None or config.label in label]
        kind = config.artifact_type
        word = kind.upper() if kind in ABBREVIATIONS else kind
        if found:
            return passed(f"{word} {listed(found)} found", labels=found[:SHOWN_MAX])
        wanted = f" with a label that contains {config.label!r}" if config.label is not None else ""
        there = f" (recorded: {listed(labels)})" if labels else ""
        return failed(f"{word} not found{wanted}{there}", labels=labels[:SHOWN_MAX])


gate = ArtifactExists()
