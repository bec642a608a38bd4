"""Documents: read from YAML or JSON, judged, written out again in canonical form (pure).

    for document in read(text):            # ValidationError: not YAML, too large, cyclic …, with line and column
        problems = validate(document)      # everything that needs no catalogue, listed together
        document.value                     # canonical JSON: what travels, what is kept

`headrace_planner.compile` turns a valid document into a plan, with the catalogue.
"""

from dataclasses import dataclass, field
from typing import Any

from headrace import codec
from headrace.errors import ValidationError
from headrace.specs import canonical, names
from headrace.specs.forms import Found
from headrace.specs.judged import judged
from headrace.specs.models import SPECS, DashboardSpec, Metadata, Spec, Step, ToolPlanSpec, Trigger, WorkflowSpec
from headrace.specs.problems import Path, Problem, Problems, brief, spelled
from headrace.specs.source import Source, read_json, read_sources, what_documents_refuse
from headrace.vocabulary import STEPS_MAX


@dataclass
class Document:
    """A document: what could be read of it, and what is wrong with its form (`problems`).

    `spec` is None when the form is too wrong; `steps` holds every step that could be read, with its number in the
    document, so that the rest can be judged too. Two documents are equal when their canonical values are.
    """

    kind: str
    metadata: Metadata | None
    spec: Spec | None
    steps: list[tuple[int, Step]]
    step_ids: list[tuple[int, str]]
    """Ids as written, of steps that could not be read too: references to those are no second mistake."""
    found: Found
    source: Source = field(default_factory=lambda: Source(None))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Document) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]  # a document is compared by value and is no key

    @property
    def name(self) -> str:
        """Give the document's name, empty when it has none."""
        return self.metadata.name if self.metadata else ""

    @property
    def triggers(self) -> list[Trigger]:
        """Give what starts runs of the workflow."""
        return self.spec.triggers if isinstance(self.spec, WorkflowSpec) else []

    @property
    def problems(self) -> Problems:
        """Give what is wrong with the form."""
        return self.located(self.found.problems)

    @property
    def value(self) -> dict[str, Any]:
        """Give the canonical JSON form; of a document with problems, what was written."""
        if self.spec is None or self.metadata is None or self.found.problems:
            return dict(self.source.value) if isinstance(self.source.value, dict) else {"spec": self.source.value}
        return {
            "apiVersion": names.API_VERSION,
            "kind": self.kind,
            "metadata": self.metadata.model_dump(exclude_unset=True),
            "spec": self.spec.model_dump(exclude_unset=True),
        }

    def located(self, problems: list[tuple[Path, str]], type: str = "validation_error") -> Problems:
        """Give problems their places, in the document's order."""
        made = [self._problem(path, message, type) for path, message in problems]
        return in_order(made)

    def _problem(self, path: Path, message: str, type: str) -> Problem:
        place = self.source.place(self._written(path))
        line, column = place if place is not None and self.source.places else (None, None)
        return Problem(path=spelled(self._written(path)), message=brief(message), type=type, line=line, column=column)

    def _written(self, path: Path) -> Path:
        """Give where a part of the canonical form stood in the document."""
        for length in range(len(path), 0, -1):
            source = self.found.moves.get(path[:length])
            if source is None:
                continue
            if source[:length] != path[:length]:
                return self._written((*source, *path[length:]))
            if length == len(path):
                return (*self._written(path[:-1]), *source[length - 1 :])  # it stood within what bears its name
        return path


def in_order(problems: list[Problem]) -> Problems:
    """Put problems into the document's order, each once."""
    unique = {(problem.path, problem.message): problem for problem in problems}
    return Problems(tuple(sorted(unique.values(), key=lambda problem: (problem.line or 0, problem.column or 0))))


def read(text: str | bytes) -> list[Document]:
    """Read every document of a text, YAML or JSON; raises ValidationError (TooLargeError) when it is neither."""
    return [_document(source) for source in read_sources(text)]


def read_one(text: str | bytes) -> Document:
    """Read a text that holds one document; raises ValidationError."""
    documents = read(text)
    if len(documents) != 1:
        message = f"the text holds {len(documents)} documents where one is expected"
        raise ValidationError(message)
    return documents[0]


def read_spec(text: str | bytes) -> dict[str, Any]:
    """Read one document as JSON without judging it; raises ValidationError when the text is not YAML of a mapping."""
    value = read_one(text).source.value
    if not isinstance(value, dict):
        message = "a document is a mapping with apiVersion, kind, metadata and spec"
        raise ValidationError(message)
    return value


def from_json(data: bytes) -> Document:
    """Judge the form of a document as it travels: JSON bytes; its problems have paths but no lines."""
    return _document(read_json(data))


def from_value(value: Any) -> Document:
    """Judge the form of a document that is JSON already; its problems have paths but no lines."""
    beyond = list(what_documents_refuse(value))
    if not beyond:
        return _document(Source(value))
    found = Found(problems=beyond)
    return Document("", None, None, [], [], found, Source(value))


def write(document: Document) -> str:
    """Write a document as YAML in canonical form."""
    from io import StringIO

    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.allow_unicode = True
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # declared as None by the library
    stream = StringIO()
    writer.dump(document.value, stream)
    return stream.getvalue()


def write_json(document: Document) -> bytes:
    """Write a document as canonical JSON bytes."""
    return codec.canonical(document.value)


def _document(source: Source) -> Document:
    found = Found()
    parts = canonical.envelope(source.value, found)
    kind = str(parts.get("kind"))
    metadata = judged(Metadata, parts.get("metadata", {}), ("metadata",), found)
    document = Document(kind, metadata, None, [], [], found, source)
    spec = parts.get("spec")
    if kind not in SPECS:
        return document
    if not isinstance(spec, dict):
        found.problem(("spec",), "spec is missing" if spec is None else "spec must be a mapping")
        return document
    if kind == names.DASHBOARD:
        document.spec = judged(DashboardSpec, canonical.dashboard(spec, found), ("spec",), found)
        return document
    spec = canonical.workflow(spec, found) if kind == names.WORKFLOW else canonical.tool_plan(spec, found)
    _read_steps(document, spec.pop("steps", None))
    whole = {**spec, "steps": [step for _, step in document.steps]}
    if kind == names.WORKFLOW:
        document.spec = judged(WorkflowSpec, whole, ("spec",), found)
    else:
        document.spec = judged(ToolPlanSpec, whole, ("spec",), found)
    return document


def _read_steps(document: Document, steps: Any) -> None:
    found, path = document.found, ("spec", "steps")
    if not isinstance(steps, list) or not steps:
        found.problem(path if steps is not None else ("spec",), f"a {document.kind} needs at least one step in steps")
        return
    if len(steps) > STEPS_MAX:
        found.problem(path, f"{len(steps)} steps; at most {STEPS_MAX} are allowed")
        return
    for number, written in enumerate(steps):
        place: Path = (*path, number)
        value = canonical.step(written, place, found)
        if document.kind == names.TOOL_PLAN and value is not None:
            value.setdefault("id", f"step_{number + 1}")
        step_id = (value or written if isinstance(written, dict) else {}).get("id")
        if isinstance(step_id, str):
            document.step_ids.append((number, step_id))
        step = judged(Step, value, place, found) if value is not None else None
        if step is not None:
            document.steps.append((number, step))
