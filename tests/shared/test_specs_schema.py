"""The published schema of documents: it accepts what people write, and refuses what reading refuses."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from headrace.expressions.functions import FUNCTIONS
from headrace.expressions.scope import ROOTS
from headrace.plans.durations import duration
from headrace.specs import names
from headrace.specs.check import validate
from headrace.specs.documents import from_value, read_one
from headrace.specs.forms import fields_of
from headrace.specs.gates import CHECKS
from headrace.specs.models import (
    Approval,
    Call,
    Choice,
    Http,
    InputField,
    Loop,
    Metadata,
    Step,
    ToolPlanSpec,
    Trigger,
    Wait,
    WorkflowSpec,
)
from headrace.specs.schema import schema
from headrace.vocabulary import RUN_TIMEOUT_S, STEPS_MAX, TOOL_TIMEOUT_S

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_and_canonical_forms_satisfy_the_published_schema(path: Path) -> None:
    document = read_one(path.read_text())
    published = schema()[document.kind]
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(document.value, published)


SHORT = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: short}
spec:
  inputs: {name: string, more: null}
  concurrency: 3
  triggers: [{event: deploy.done}]
  steps:
    - {id: nap, wait: 30s}
    - {id: ask, approval: null, depends_on: nap}
    - {id: again, tool: book, retry: 3, timeout: {queue: 1m, attempt: 30s, step: 5m}, compensate: {tool: free, retry: 2}}
    - {id: slow, tool: book, retry: {backoff: 2s, retry_on: upstream_error}, compensate: free}
    - {id: fixed, tool: book, retry: {backoff: exponential}}
    - {id: page, http: "https://example.org"}
    - {id: issues, integration: github.list_issues}
    - {id: child, sub_workflow: other, retry: true}
    - {id: which, condition: {expression: "1 == 1", then: told, else: null}}
    - {id: rounds, loop: {while: "iteration == 0", steps: told}}
    - {id: told, transform: 1}
"""
DOCUMENTED = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in (*sorted((Path(__file__).parents[2] / "docs").glob("*.md")), Path(__file__).parents[2] / "README.md")
    for number, block in enumerate(
        re.findall(r"^```yaml\n(apiVersion.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    )
]


@pytest.mark.parametrize(
    "text", [pytest.param(SHORT, id="short"), *(pytest.param(path.read_text(), id=path.stem) for path in EXAMPLES)]
)
def test_what_people_write_satisfies_the_published_schema_as_they_write_it(text: str) -> None:
    written = YAML(typ="safe").load(text)
    jsonschema.Draft202012Validator.check_schema(schema()[written["kind"]])
    jsonschema.validate(written, schema()[written["kind"]])
    assert not read_one(text).problems


@pytest.mark.parametrize("text", DOCUMENTED)
def test_a_document_in_the_docs_is_valid_and_satisfies_the_published_schema(text: str) -> None:
    written = YAML(typ="safe").load(text)
    jsonschema.validate(written, schema()[written["kind"]])
    assert not [str(problem) for problem in validate(read_one(text))]


def test_the_published_schema_says_defaults_as_documents_do() -> None:
    fields = schema()["Workflow"]["$defs"]["Backoff"]["properties"]
    assert (fields["initial"]["default"], fields["max"]["default"]) == ("1s", "1m")


@pytest.mark.parametrize(
    "step",
    [{"wait": "soon"}, {"tool": "x", "retry": 0}, {"tool": "x", "timeout": {"whole": "1m"}}, {"integration": "x"}],
)
def test_the_published_schema_refuses_short_forms_that_reading_refuses(step: dict[str, Any]) -> None:
    value = {"apiVersion": "headrace/v1", "kind": "Workflow", "metadata": {"name": "w"}}
    value["spec"] = {"steps": [{"id": "a", **step}]}
    assert validate(from_value(value))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, schema()["Workflow"])


def test_the_published_schema_refuses_what_is_unknown() -> None:
    value = read_one(EXAMPLES[0].read_text()).value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**value, "spec": {**value["spec"], "stepz": []}}, schema()[value["kind"]])


SPEC_PAGE = (Path(__file__).parents[2] / "docs" / "spec.md").read_text()
TOLD = frozenset(word for code in re.findall(r"`([^`\n]+)`", SPEC_PAGE) for word in re.findall(r"[A-Za-z0-9_.]+", code))
PARTS = (Metadata, WorkflowSpec, ToolPlanSpec, Step, InputField, Trigger, Http, Call, Choice, Loop, Wait, Approval)


@pytest.mark.parametrize(
    "words",
    [
        *(pytest.param(fields_of(part), id=part.__name__) for part in PARTS),
        pytest.param(names.STEP_KINDS, id="kinds"),
        pytest.param(names.GATES, id="gates"),
        pytest.param({key for fields, _ in CHECKS.values() for key in fields}, id="keys of gates"),
        pytest.param(ROOTS, id="roots"),
        pytest.param({name for name in FUNCTIONS if not name.startswith(("math.", "each_"))}, id="functions"),
    ],
)
def test_the_page_of_specs_tells_every_key(words: Collection[str]) -> None:
    assert set(words) <= TOLD


def test_the_page_of_specs_tells_the_defaults_that_plans_get() -> None:
    assert f"| {duration(RUN_TIMEOUT_S)} |" in SPEC_PAGE
    assert f"| {duration(TOOL_TIMEOUT_S)} for tools" in SPEC_PAGE
    assert f"at most {STEPS_MAX:,};" in SPEC_PAGE
