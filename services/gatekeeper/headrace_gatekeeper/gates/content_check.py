"""The gates `content_check` and `sections_exist`: what a recorded file says (pure).

The regular expression is CEL's `matches` (RE2's language, found anywhere in the text): it takes linear time on any
text, so that no config can hold up the gatekeeper.
"""

from typing import Any, Final, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from headrace.errors import HeadraceError
from headrace.expressions.expression import parse
from headrace.expressions.scope import Values
from headrace.ports.gate import Verdict
from headrace_gatekeeper.gates import glob
from headrace_gatekeeper.gates.headings import headings, plain
from headrace_gatekeeper.gates.recorded import SHOWN_MAX, GateConfig, error, failed, files, listed, passed

SECTIONS_MAX: Final = 200
MATCHES: Final = "variables.text.matches(variables.pattern)"


class ContentCheckConfig(GateConfig):
    """Config of `content_check`: which file (a glob), and the headings or the text that it must have."""

    file: str
    required_sections: tuple[str, ...] = Field(
        default=(), max_length=SECTIONS_MAX, validation_alias=AliasChoices("required_sections", "requiredSections")
    )
    pattern: str | None = None

    @field_validator("file")
    @classmethod
    def _usable(cls, file: str) -> str:
        found = glob.problem(file)
        if found is not None:
            raise ValueError(found)
        return file

    @field_validator("required_sections")
    @classmethod
    def _named(cls, sections: tuple[str, ...]) -> tuple[str, ...]:
        if not all(section.strip() for section in sections):
            message = "a required section has no name"
            raise ValueError(message)
        return sections

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.required_sections and self.pattern is None:
            message = "give required_sections, pattern or both"
            raise ValueError(message)
        if self.pattern is not None:
            try:
                _found(self.pattern, "")
            except HeadraceError as problem:
                why = problem.details.get("reason", problem.message)
                message = f"pattern is not a regular expression: {why}"
                raise ValueError(message) from problem
        return self


class ContentCheck:
    """Passes when every recorded file that `file` matches has all required headings and the pattern."""

    name, version, config = "content_check", "1", ContentCheckConfig

    def evaluate(self, evidence: dict[str, Any], config: ContentCheckConfig) -> Verdict:
        """Judge; pure. A file whose text was not recorded is an error: nothing can be said about it."""
        recorded = files(evidence)
        chosen = {path: artifact for path, artifact in recorded.items() if glob.matches(config.file, path)}
        if not chosen:
            there = f"recorded files: {listed(list(recorded))}" if recorded else "no file was recorded"
            return failed(f"file {config.file!r} not found ({there})", files=list(recorded)[:SHOWN_MAX])
        for path, artifact in chosen.items():
            text = artifact.get("text")
            if not isinstance(text, str):
                return error(f"the text of {path} was not recorded, so it cannot be checked", file=path)
            try:
                lacks = _lacks(text, config)
            except HeadraceError as problem:
                return error(problem.message, file=path)
            if lacks:
                return failed(f"{path} {'; '.join(lacks)}", file=path, lacks=lacks)
        return passed(f"{listed(list(chosen))} has what is asked for", files=list(chosen)[:SHOWN_MAX])


class SectionsExist(ContentCheck):
    """`content_check` by its older name."""

    name = "sections_exist"


def _lacks(text: str, config: ContentCheckConfig) -> list[str]:
    there = set(headings(text))
    missing = [section for section in config.required_sections if plain(section.lstrip("# ")) not in there]
    lacks = [f"has no section {listed(missing)}"] if missing else []
    if config.pattern is not None and not _found(config.pattern, text):
        lacks.append(f"does not match {config.pattern!r}")
    return lacks


def _found(pattern: str, text: str) -> bool:
    return parse(MATCHES).holds(Values({"variables": {"text": text, "pattern": pattern}}))


gate = ContentCheck()
sections_exist = SectionsExist()
