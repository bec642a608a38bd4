"""Compiling: the same plan everywhere, or every problem with its place."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import codec
from headrace.errors import TooLargeError
from headrace.plans import diff, model, show
from headrace.plans.model import CallStep, GateStep, Plan
from headrace.specs.documents import from_json, read_one, write_json
from headrace.specs.problems import Problems
from headrace_planner.compile.compiler import compile as compile_document
from headrace_planner.compile.compiler import compile_bytes
from tests.planner.catalogue_fixture import catalogue

EXAMPLES = Path(__file__).parents[2] / "examples"
CATALOGUE = catalogue()


def text_of(steps: str, more: str = "", kind: str = "Workflow") -> str:
    body = "".join(f"    - {{{step.strip()}}}\n" for step in steps.splitlines() if step.strip())
    return f"apiVersion: headrace/v1\nkind: {kind}\nmetadata: {{name: w}}\nspec:\n{more}  steps:\n{body}"


def plan_of(steps: str, more: str = "", kind: str = "Workflow") -> Plan:
    made = compile_document(read_one(text_of(steps, more, kind)), CATALOGUE)
    assert isinstance(made, Plan), [str(problem) for problem in made]
    return made


def problems_of(steps: str, more: str = "", kind: str = "Workflow") -> dict[str, str]:
    made = compile_document(read_one(text_of(steps, more, kind)), CATALOGUE)
    assert isinstance(made, Problems)
    return {problem.message: problem.type for problem in made}


def example(name: str) -> Plan:
    made = compile_document(read_one((EXAMPLES / name).read_text()), CATALOGUE)
    assert isinstance(made, Plan), [str(problem) for problem in made]
    return made


def test_the_main_job_compiles_to_the_plan_that_its_page_tells() -> None:
    plan = example("repo-report.yaml")
    assert [step.id for step in plan.steps] == ["files", "symbols", "totals", "ready", "sign_off", "report", "complete"]
    assert plan.step("symbols").is_map
    assert plan.step("report").covered_by == ("sign_off",)
    assert plan.authorization == "none"
    assert plan.step("report").needs == ("totals", "sign_off")
    assert set(plan.tools) == {
        "file_glob",
        "symbols_in_file",
        "file_write",
        "gate.expression",
        "gate.content_check",
    }
    assert plan.tools["file_write"].digest == model.manifest_digest(CATALOGUE["file_write"])


@pytest.mark.parametrize("name", ["repo-report.yaml", "hello.yaml", "tool-plan.yaml", "github-dashboard.yaml"])
def test_a_plan_is_the_same_from_yaml_and_json_and_survives_its_own_bytes(name: str) -> None:
    document = read_one((EXAMPLES / name).read_text())
    plan = example(name)
    assert compile_bytes(write_json(document), CATALOGUE) == plan
    assert compile_bytes((EXAMPLES / name).read_bytes(), CATALOGUE) == plan
    assert model.digest(model.parse(model.canonical(plan))) == model.digest(plan)


def test_another_process_and_another_order_of_tools_give_the_same_digest() -> None:
    path = EXAMPLES / "repo-report.yaml"
    program = f"""
import sys
from pathlib import Path
from headrace.plans import model
from headrace.specs.documents import read_one
from headrace_planner.compile.compiler import compile
from tests.planner.catalogue_fixture import catalogue
tools = dict(reversed(catalogue().items()))
sys.stdout.write(model.digest(compile(read_one(Path({str(path)!r}).read_text()), tools)))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=root, text=True)
    assert done.stdout == model.digest(example("repo-report.yaml"))


STEP_IDS = ("a", "b", "c", "d", "e")


BODIES: list[dict[str, Any]] = [
    {"transform": 1},
    {"tool": "file_read", "with": {"path": "x"}},
    {"tool": "file_write", "with": {"path": "x", "contents": "{{ inputs.n }}"}},
    {"approval": {}},
    {"wait": "1s"},
    {"tool": "nope"},
]


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    steps = []
    for number, step_id in enumerate(STEP_IDS):
        needs = draw(st.lists(st.sampled_from(STEP_IDS), max_size=2, unique=True)) if number else []
        body = draw(st.sampled_from(BODIES))
        steps.append({"id": step_id, "depends_on": needs, **body})
    spec = {"inputs": {"n": {"type": "any", "default": draw(st.sampled_from([1, 1.0, "x", None]))}}, "steps": steps}
    value = {"apiVersion": "headrace/v1", "kind": "Workflow", "metadata": {"name": "w"}, "spec": spec}
    return codec.dumps(value)


@given(documents())
@settings(max_examples=150, deadline=None)
def test_compile_gives_the_same_again_and_puts_every_step_after_what_it_needs(data: bytes) -> None:
    first, second = compile_bytes(data, CATALOGUE), compile_bytes(data, dict(reversed(CATALOGUE.items())))
    if isinstance(first, Problems):
        assert second == first
        return
    assert isinstance(second, Plan)
    assert model.canonical(first) == model.canonical(second)
    again = compile_document(from_json(write_json(from_json(data))), CATALOGUE)
    assert isinstance(again, Plan)
    assert model.canonical(first) == model.canonical(again)
    seen: set[str] = set()
    for step in first.steps:
        assert seen.issuperset(step.needs)
        seen.add(step.id)


@pytest.mark.parametrize(
    ("step", "said", "kind"),
    [
        ("tool: fil_read, with: {path: x}", "tool 'fil_read' not found; did you mean file_read?", "tool_not_found"),
        ("tool: 'rm -rf /'", "tool 'rm -rf /' not found", "tool_not_found"),
        ("tool: rm, with: {path: x}", "the tool 'rm' is forbidden", "validation_error"),
        ("tool: gate.expression", "not found", "tool_not_found"),
        ("tool: file_read", "file_read needs the argument 'path'", "missing_argument"),
        (
            "tool: file_read, with: {path: x, pth: y}",
            "file_read has no argument 'pth'; did you mean path?",
            "validation_error",
        ),
        ("tool: file_read, with: {path: 3}", "path must be a text, not 3", "validation_error"),
        ("tool: file_read, with: {path: '{{ 1 + 2 }}'}", "path must be a text, not 3", "validation_error"),
        ("tool: file_read, with: {path: ''}", "path must not be empty", "validation_error"),
        ("tool: file_search, with: {pattern: x, limit: 0}", "limit must be at least 1", "validation_error"),
        ("integration: github.issue, with: {}", "did you mean github.issues?", "tool_not_found"),
        (
            "integration: github.issues, with: {owner: a, repo: b, state: opn}",
            "state must be one of",
            "validation_error",
        ),
        ("integration: github.issues, with: {owner: a, repo: b, labels: [1]}", "labels must be", "validation_error"),
        ("http: {url: x, headers: {a: 1}}", "a must be a text", "validation_error"),
        ("http: {url: x}, timeout: 10m", "an http request may take 5m at most", "validation_error"),
        ("http: {url: x}, timeout: {attempt: 10m}", "an http request may take 5m at most", "validation_error"),
        ("http: {url: x, method: POST}, retry: 3", "may not be retried", "validation_error"),
        ("tool: file_create, with: {path: x, contents: y}, retry: 2", "may not be retried", "validation_error"),
    ],
)
def test_row_75_what_the_catalogue_has_against_a_step_is_refused_where_it_stands(
    step: str, said: str, kind: str
) -> None:
    found = problems_of(f"id: a, {step}")
    assert len(found) == 1, found
    message, type_ = next(iter(found.items()))
    assert said in message
    assert type_ == kind


def test_a_request_that_may_take_too_long_is_refused_where_the_document_says_so() -> None:
    text = text_of("id: a, http: {url: x}, timeout: {attempt: 10m}", "", "Workflow")
    found = compile_document(read_one(text), CATALOGUE)
    assert isinstance(found, Problems)
    assert [problem.path for problem in found] == ["spec.steps[0].timeout.attempt"]


def test_problems_of_form_graph_and_catalogue_are_listed_together() -> None:
    found = problems_of(
        "id: a, tool: nope\nid: b, tool: file_read, with: {path: x}, retri: 3\nid: c, transform: 1, depends_on: [zz]"
    )
    assert len(found) == 3


def test_arguments_that_only_a_run_knows_are_not_judged() -> None:
    plan_of("id: a, tool: file_read, with: {path: '{{ inputs.p }}'}", "  inputs: {p: any}\n")


def test_a_gate_of_a_plug_in_is_known_by_the_catalogue_and_an_unknown_one_refused() -> None:
    plan = plan_of("id: a, gate: {type: is_friday, zone: UTC}")
    assert plan.step("a").body == GateStep(gate="is_friday", config={"zone": "UTC"})
    (only,) = problems_of("id: a, gate: {type: is_fryday}")
    assert "unknown gate 'is_fryday'; did you mean is_friday?" in only


def test_an_http_step_is_performed_by_the_tool_that_its_method_asks_for() -> None:
    plan = plan_of(
        "id: a, http: {url: 'http://x', body: '{{ steps.b.output }}'}\nid: b, transform: 1\nid: c, http: {url: u, method: delete}"
    )
    assert isinstance(plan.step("a").body, CallStep)
    assert set(plan.tools) == {"http", "http_write"}
    assert plan.step("a").timeout_s == 30
    assert plan.step("a").needs == ("b",)
    assert [step.id for step in plan.steps] == ["b", "a", "c"]
    assert plan.authorization == "run"


def test_a_branch_needs_its_condition() -> None:
    plan = plan_of("id: yes, transform: 1\nid: no, transform: 2\nid: c, condition: '1 < 2', then: [yes], else: no")
    assert [step.id for step in plan.steps] == ["c", "yes", "no"]
    assert plan.step("yes").needs == plan.step("no").needs == ("c",)


def test_a_tool_plan_is_a_chain_that_always_needs_its_digest_authorised() -> None:
    plan = plan_of(
        "tool: file_read, with: {path: x}\ntool: file_read, with: {path: y}, requires_confirmation: true\ntool: file_read, with: {path: z}, depends_on: [step_1]",
        kind="ToolPlan",
    )
    assert [step.needs for step in plan.steps] == [(), ("step_1",), ("step_1",)]
    assert plan.step("step_2").confirm
    assert plan.authorization == "plan"


WRITE = "tool: file_write, with: {path: x, contents: y}"


@pytest.mark.parametrize(
    ("steps", "covered_by"),
    [
        (f"id: ok, approval: {{}}\nid: w, {WRITE}, depends_on: [ok]", ("ok",)),
        (f"id: ok, approval: {{}}\nid: t, transform: 1, depends_on: [ok]\nid: w, {WRITE}, depends_on: [t]", ("ok",)),
        (f"id: ok, approval: {{}}\nid: w, {WRITE}", ()),
        (f"id: ok, approval: {{}}, on_error: continue\nid: w, {WRITE}, depends_on: [ok]", ()),
        (f"id: ok, approval: {{}}, condition: 'inputs.n == 1'\nid: w, {WRITE}, depends_on: [ok]", ("ok",)),
        (
            f"id: ok, approval: {{}}, condition: 'inputs.n == 1'\nid: t, transform: 1\nid: w, {WRITE}, depends_on: [ok, t]",
            (),
        ),
        (
            f"id: c, condition: 'inputs.n == 1', then: [ok, w], else: [e]\nid: ok, approval: {{}}\nid: e, transform: 1\nid: w, {WRITE}, depends_on: [ok]",
            ("ok",),
        ),
        (
            f"id: c, condition: 'inputs.n == 1', then: [ok], else: [e]\nid: ok, approval: {{}}\nid: e, transform: 1\nid: w, {WRITE}, depends_on: [ok, e]",
            (),
        ),
        (
            f"id: ok, approval: {{}}\nid: t, transform: 1, condition: 'inputs.n == 1', depends_on: [ok]\nid: u, transform: 2\nid: w, {WRITE}, depends_on: [t, u]",
            (),
        ),
    ],
)
def test_an_approval_covers_a_write_only_when_no_way_leads_around_it(steps: str, covered_by: tuple[str, ...]) -> None:
    plan = plan_of(steps, "  inputs: {n: integer}\n")
    assert plan.step("w").covered_by == covered_by
    assert plan.authorization == ("none" if covered_by else "run")


def test_a_dashboard_reads_each_distinct_source_once_and_goes_on_after_errors() -> None:
    plan = example("github-dashboard.yaml")
    assert [(step.id, step.on_error) for step in plan.steps] == [("open", "continue")]
    assert [(view["id"], view["step"]) for view in plan.views] == [("open", "open"), ("newest", "open")]
    assert plan.views[1]["sort"] == "-created_at"
    assert plan.authorization == "none"


def test_a_dashboard_that_writes_is_refused() -> None:
    text = (EXAMPLES / "github-dashboard.yaml").read_text().replace("operation: issues", "operation: close")
    made = compile_document(read_one(text), CATALOGUE)
    assert isinstance(made, Problems)
    assert all("a dashboard only reads" in problem.message for problem in made)


def test_an_upgraded_tool_changes_the_digest_and_the_difference_names_its_pin() -> None:
    tools = {**CATALOGUE, "file_glob": msgspec.structs.replace(CATALOGUE["file_glob"], version="2")}
    made = compile_document(read_one((EXAMPLES / "hello.yaml").read_text()), tools)
    assert isinstance(made, Plan)
    found = diff.diff(example("hello.yaml"), made)
    assert found
    assert {(change.what, change.name, change.field) for change in found.changes} == {
        ("tool", "file_glob", "version"),
        ("tool", "file_glob", "digest"),
    }


def test_bytes_that_are_no_document_are_a_problem_and_no_crash() -> None:
    for data in (b"{", b"null", b"[1]", b"\xff", b"{}", b'{"a": 1e999}', b"a: ["):
        assert isinstance(compile_bytes(data, CATALOGUE), Problems)
    with pytest.raises(TooLargeError):
        compile_bytes(b"x" * 2_000_000, CATALOGUE)


def test_an_empty_catalogue_says_that_no_worker_is_there() -> None:
    made = compile_document(read_one((EXAMPLES / "hello.yaml").read_text()), {})
    assert isinstance(made, Problems)
    assert "no worker has announced any tool yet" in next(iter(made)).message
    assert made.error().type == "tool_not_found"


def test_every_plan_can_be_shown() -> None:
    for name in ("repo-report.yaml", "hello.yaml", "tool-plan.yaml", "github-dashboard.yaml"):
        plan = example(name)
        assert all(step.id in show.table_text(plan) and step.id in show.tree_text(plan) for step in plan.steps)
        assert show.summary(plan)["plan_digest"] == model.digest(plan)
