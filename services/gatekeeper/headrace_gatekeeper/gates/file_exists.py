"""The gate `file_exists`: a file artifact was recorded whose path the pattern matches (pure)."""

from typing import Any

from pydantic import field_validator

from headrace.ports.gate import Verdict
from headrace_gatekeeper.gates import glob
from headrace_gatekeeper.gates.recorded import SHOWN_MAX, GateConfig, failed, files, listed, passed


class FileExistsConfig(GateConfig):
    """Config of `file_exists`."""

    pattern: str

    @field_validator("pattern")
    @classmethod
    def _usable(cls, pattern: str) -> str:
        found = glob.problem(pattern)
        if found is not None:
            raise ValueError(found)
        return pattern


class FileExists:
    """Passes when at least one recorded file matches a glob."""

    name, version, config = "file_exists", "1", FileExistsConfig

    def evaluate(self, evidence: dict[str, Any], config: FileExistsConfig) -> Verdict:
        """Judge; pure."""
        paths = list(files(evidence))
        found = [path for path in paths if glob.matches(config.pattern, path)]
        if found:
            return passed(f"{listed(found)} matches {config.pattern!r}", files=found[:SHOWN_MAX])
        there = f"recorded files: {listed(paths)}" if paths else "no file was recorded"
        return failed(f"no file matches {config.pattern!r} ({there})", files=paths[:SHOWN_MAX])


gate = FileExists()
