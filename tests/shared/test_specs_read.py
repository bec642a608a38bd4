"""Documents are read with the place of every mistake."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import TooLargeError, ValidationError
from headrace.plans.durations import duration
from headrace.specs.check import validate
from headrace.specs.documents import Document, from_json, from_value, read, read_one, read_spec, write, write_json
from headrace.specs.durations import seconds
from headrace.vocabulary import SPEC_BYTES_MAX

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def workflow(steps: str, more: str = "") -> str:
    return f"apiVersion: headrace/v1\nkind: Workflow\nmetadata: {{name: w}}\nspec:\n{more}  steps:\n{steps}"


def messages(text: str) -> list[str]:
    return [str(problem) for problem in validate(read_one(text))]


def refused(text: str | bytes) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        read(text)
    return caught.value


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_row_42_a_document_parsed_serialised_and_parsed_again_is_equal(path: Path) -> None:
    first = read_one(path.read_text())
    assert not validate(first)
    assert read_one(write(first)) == first
    assert from_json(write_json(first)) == first
    assert write(read_one(write(first))) == write(first)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: [1, 2", 1, "not YAML"),
        ("a: 1\nb: c: d", 2, "not YAML"),
        ("a: 1\n\tb: 2", 2, "not YAML"),
        ("a: 1\nb: 2\na: 3", 3, "duplicate key 'a'"),
        ("a: &x [1, *x]", 1, "contains itself"),
        ("a: &x {b: *x}", 1, "contains itself"),
        ("a: *nobody", 1, "not YAML"),
        ("a: !thing 1", 1, "the tag !thing"),
        ("a: &x {b: 1}\nc: {<<: *x}", 2, "merge keys"),
        ("a: 9007199254740993", 1, "beyond 2^53"),
        ("a: .nan", 1, "no number that JSON knows"),
        ("a: 1e999", 1, "beyond the largest"),
        ("a: \x00", 1, "not YAML"),
        ("", 1, "empty"),
        ("# nothing", 1, "empty"),
        ("[" * 500 + "]" * 500, 1, "nested deeper"),
    ],
)
def test_what_is_no_document_is_refused_with_its_place(text: str, line: int, said: str) -> None:
    error = refused(text)
    assert said in error.message
    assert error.details["problems"][0]["line"] == line
    assert error.details["problems"][0]["column"] >= 1


def test_text_that_is_not_utf8_is_refused_with_its_place() -> None:
    assert refused(b"a: 1\nb: \xff").details["problems"][0] == {
        "path": "",
        "message": "not UTF-8 text",
        "line": 2,
        "column": 4,
    }


def test_a_document_of_50_mb_is_refused_at_once_with_its_size() -> None:
    text = b"x" * 50_000_000
    with pytest.raises(TooLargeError, match=f"50000000 bytes; at most {SPEC_BYTES_MAX}"):
        read(text)


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "aliases counted" in refused("\n".join(lines)).message


def test_scalars_follow_yaml_1_2() -> None:
    value = read_spec("{yes: yes, no: no, date: 2026-01-02, hex: 0x10, n: 010, nul: ~, t: true, f: 1.5, s: '5'}")
    assert value == {
        "yes": "yes",
        "no": "no",
        "date": "2026-01-02",
        "hex": 16,
        "n": 10,
        "nul": None,
        "t": True,
        "f": 1.5,
        "s": "5",
    }


def test_several_documents_are_read_each() -> None:
    text = workflow("    - {id: a, transform: 1}\n")
    assert [document.name for document in read(f"{text}---\n{text}")] == ["w", "w"]
    with pytest.raises(ValidationError, match="2 documents"):
        read_one(f"{text}---\n{text}")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("apiVersion: headrace/v1", "apiVersion: headrace/v9", "apiVersion must be 'headrace/v1'"),
        ("kind: Workflow", "kind: Wrkflow", "did you mean Workflow?"),
        ("kind: Workflow", "kind: Recipe", "kind 'Recipe' is not built yet"),
        ("{name: w}", '{name: ""}', "'' is not a name"),
        ("{name: w}", "{name: a b}", "'a b' is not a name"),
        ("{name: w}", "{nam: w}", "unknown field 'nam'; did you mean name?"),
        ("spec:\n", "specs:\n", "spec is missing"),
    ],
)
def test_row_45_a_wrong_envelope_is_refused(old: str, new: str, said: str) -> None:
    text = workflow("    - {id: a, transform: 1}\n")
    assert any(said in message for message in messages(text.replace(old, new)))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("  timeout: 0\n", "timeout: must be more than 0"),
        ("  timeout: 0s\n", "must be more than 0"),
        ("  timeout: 30\n", "with units"),
        ("  concurrency: 0\n", "limit must be at least 1"),
        ("  concurrency: {key: x, on_conflict: drop}\n", "on_conflict must be one of queue, reject, replace"),
        ("  concurrency: 10001\n", "limit must be at most 10000"),
        ("  priority: 101\n", "priority must be at most 100"),
        ("  budget: {tokens: 1}\n", "budget is not built yet"),
        ("  automation: auto_notify\n", "not built yet"),
        ("  on_failure: revert\n", "not built yet"),
        ("  triggers: [{type: cron}]\n", "trigger type 'cron' is not built yet"),
        ("  variabels: {}\n", "did you mean variables?"),
    ],
)
def test_row_45_wrong_fields_of_a_spec_are_refused(more: str, said: str) -> None:
    found = messages(workflow("    - {id: a, transform: 1}\n", more))
    assert any(said in message and message.startswith("line 5") for message in found)


def test_row_45_no_steps_are_refused() -> None:
    assert any("at least one step" in message for message in messages(workflow("    []\n")))
    assert any(
        "at least one step" in message for message in messages(workflow("").replace("  steps:\n", "  inputs: {}\n"))
    )


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("agent: {}", "step kind 'agent' is not built yet"),
        ("loop: {}", "while"),
        ("loop: {while: 'true', steps: []}", "steps"),
        ("loop: {while: 'true', steps: [nowhere]}", "unknown step 'nowhere' in the loop's body"),
        ("loop: {while: 'true', steps: [a]}", "names itself"),
        ("loop: {while: 'true', steps: [x], cap: 0}", "cap must be at least 1"),
        ("sub_workflow: {}", "workflow"),
        ("workflow: Not A Name", "is not a name"),
        ("type: skill", "step kind 'skill' is not built yet"),
        ("type: tol", "unknown step kind 'tol'; did you mean tool?"),
        ("tol: x", "unknown field 'tol'; did you mean tool?"),
        ("name: x", "needs a key that names its kind"),
        ("tool: x, http: {url: y}", "names tool and http"),
        ("tool: x, compensate: {}", "one tool, http or integration call; this one names none"),
        ("transform: 1, compensate: {tool: x}", "does nothing that could be undone"),
        ("tool: x, compensate: {tool: y, http: z}", "names tool and http"),
        ("wait: {}", "this one names nothing"),
        ("wait: {signal: x, timer: 1s}", "this one names timer and signal"),
        ("wait: {signal: x, when: 'true'}", "`when` chooses among events"),
        ("wait: {timer: 1s, timeout: 2s}", "a timer needs no timeout"),
        ("tool: x, on_item_error: collect", "on_item_error is for a map step alone"),
        ("tool: x, timeout: {attempt: 2m, step: 1m}", "cannot be shorter than one's"),
        ("tool: x, timeout: {atempt: 2m}", "unknown timeout 'atempt'; did you mean attempt?"),
        ("transform: 1, timeout: {queue: 2m}", "no worker performs it"),
        ("wait: 10", "with units"),
        ("tool: x, timeout: 0", "must be more than 0"),
        ("tool: x, on_error: ignore", "on_error must be one of fail, continue"),
        ("tool: x, retry: 0", "max_attempts must be at least 1"),
        ("tool: x, retry: {strategy: llm_self_correct}", "not built yet"),
        ("approval: {quorum: 0}", "quorum must be at least 1"),
        ("approval: {roles: [approvr]}", "did you mean approver?"),
        ("tool: x, precondition: the moon is full", "unknown precondition 'the moon is full'"),
        ("map: [1], wait: 1s", "a map step also needs one of"),
        ("http: {urll: x}", "did you mean url?"),
        ("tool: x, depends_on: {a: 1}", "depends_on must be a list"),
    ],
)
def test_a_wrong_step_is_refused_where_it_stands(step: str, said: str) -> None:
    found = messages(workflow(f"    - {{id: a, {step}}}\n"))
    assert any(said in message and message.startswith("line 6") for message in found)


def test_all_mistakes_of_a_document_are_listed_together_in_its_order() -> None:
    text = workflow("    - {id: a, tool: x, timout: 3s}\n    - {id: B, transform: 1}\n    - {id: c, gate: {type: x}}\n")
    problems = list(validate(read_one(text)))
    assert [problem.line for problem in problems] == [6, 7, 8]
    assert problems[0].column == 24
    assert problems[0].path == "spec.steps[0].timout"
    error = validate(read_one(text)).error()
    assert len(error.details["problems"]) == 3


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ({"type": "tool", "config": {"name": "x", "arguments": {"a": 1}}}, {"tool": "x", "with": {"a": 1}}),
        (
            {"type": "conditional", "config": {"if": "true", "then": "b"}},
            {"condition": {"expression": "true", "then": ["b"]}},
        ),
        ({"condition": "{{ true }}", "then": ["b"]}, {"condition": {"expression": "true", "then": ["b"]}}),
        ({"tool": "x", "when": "true"}, {"tool": "x", "condition": "true"}),
        (
            {"query": "github.issues", "with": {"a": 1}},
            {"integration": {"name": "github", "operation": "issues", "with": {"a": 1}}},
        ),
        (
            {"type": "action", "config": {"name": "g", "operation": "o"}},
            {"integration": {"name": "g", "operation": "o"}},
        ),
        (
            {"gate": {"type": "sections_exist", "file": "a", "requiredSections": ["b"], "failureMessage": "no"}},
            {
                "gate": {
                    "type": "content_check",
                    "config": {"file": "a", "required_sections": ["b"]},
                    "failure_message": "no",
                }
            },
        ),
        (
            {"gate": {"type": "jury_score", "threshold": 70, "message": "low"}},
            {
                "gate": {
                    "type": "metric_threshold",
                    "config": {"threshold": 70, "metric": "jury_score", "operator": ">="},
                    "failure_message": "low",
                }
            },
        ),
        ({"gate": {"type": "approval", "quorum": 2, "expiry": "24h"}}, {"approval": {"quorum": 2, "expires": "24h"}}),
        ({"approval": None}, {"approval": {}}),
        ({"wait": "90m"}, {"wait": {"timer": "1h30m"}}),
        (
            {"tool": "x", "dependsOn": "b", "requiresConfirmation": True},
            {"tool": "x", "depends_on": ["b"], "requires_confirmation": True},
        ),
        ({"tool": "x", "retry": 3}, {"tool": "x", "retry": {"max_attempts": 3}}),
        ({"http": {"url": "u", "method": "post"}}, {"http": {"method": "POST", "url": "u"}}),
        ({"transform": None}, {"transform": None}),
    ],
)
def test_older_spellings_and_long_forms_are_read_and_the_canonical_one_written(
    written: dict[str, Any], canonical: dict[str, Any]
) -> None:
    document = from_value(
        {
            "apiVersion": "headrace/v1",
            "kind": "Workflow",
            "metadata": {"name": "w"},
            "spec": {"steps": [{"id": "a", **written}, {"id": "b", "transform": 1}]},
        }
    )
    assert not document.problems, [str(problem) for problem in document.problems]
    assert document.value["spec"]["steps"][0] == {"id": "a", **canonical}
    assert from_value(document.value) == document


@pytest.mark.parametrize(
    ("text", "total_s"),
    [("30s", 30), ("24h", 86_400), ("1h30m", 5_400), ("500ms", 0.5), ("1.5h", 5_400), ("7d", 604_800)],
)
def test_durations_have_units(text: str, total_s: float) -> None:
    assert seconds(text) == total_s
    assert seconds(duration(total_s)) == total_s


@pytest.mark.parametrize("value", [30, 0, -1, "30", "", "s", "1x", "0s", "1h 30m", None, True, "99999d"])
def test_other_durations_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"more than 0|not a duration"):
        seconds(value)


def test_json_keeps_the_limits_of_documents() -> None:
    document = from_value({"apiVersion": "headrace/v1", "spec": {"x": [2**60]}})
    assert [problem.path for problem in document.problems] == ["spec.x[0]"]
    with pytest.raises(ValidationError, match="duplicate key"):
        from_json(b'{"a": 1, "a": 2}')
    with pytest.raises(ValidationError, match="beyond"):
        from_json(b'{"a": 9007199254740993}')


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["a", "tool", "{{ x", "1s", "{{ steps.a.output }}"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "tool",
                    "with",
                    "type",
                    "config",
                    "gate",
                    "map",
                    "condition",
                    "then",
                    "wait",
                    "http",
                    "retry",
                    "kind",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=3), JSON)
@settings(max_examples=300, deadline=None)
def test_whatever_a_document_holds_it_is_judged_and_never_crashes(steps: list[Any], more: Any) -> None:
    value = {
        "apiVersion": "headrace/v1",
        "kind": "Workflow",
        "metadata": {"name": "w"},
        "spec": {"steps": steps, "inputs": more},
    }
    document = from_value(value)
    assert isinstance(document, Document)
    if not validate(document):
        assert from_value(document.value) == document
