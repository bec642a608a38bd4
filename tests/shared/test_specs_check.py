"""Documents are judged offline: ids, references, cycles, gates, expressions, triggers, dashboards."""

import pytest

from headrace.errors import ValidationError
from headrace.specs.check import validate
from headrace.specs.documents import Document, read_one


def whole(steps: str, more: str = "", kind: str = "Workflow") -> Document:
    body = "".join(f"    - {{{step}}}\n" for step in steps.strip().splitlines() if step.strip())
    text = f"apiVersion: headrace/v1\nkind: {kind}\nmetadata: {{name: w}}\nspec:\n{more}  steps:\n{body}"
    return read_one(text)


def said(steps: str, more: str = "", kind: str = "Workflow") -> dict[str, str]:
    return {problem.message: problem.type for problem in validate(whole(steps, more, kind))}


def one(steps: str, more: str = "", kind: str = "Workflow") -> str:
    found = said(steps, more, kind)
    assert len(found) == 1, found
    return next(iter(found))


def test_row_43_duplicate_step_ids_are_refused() -> None:
    assert one("id: a, transform: 1\nid: a, transform: 2").startswith("duplicate step ID 'a'")


def test_row_44_a_dependency_on_a_missing_step_is_refused() -> None:
    found = said("id: gather, transform: 1\nid: b, transform: 2, depends_on: [gathr]")
    assert found == {"unknown step 'gathr' in depends_on; did you mean gather?": "unknown_dependency"}


def test_an_error_type_that_is_misspelt_is_refused_one_of_a_tools_own_is_not() -> None:
    assert one("id: a, tool: t, retry: {retry_on: [upstream_eror]}") == (
        "unknown error type 'upstream_eror'; did you mean upstream_error?"
    )
    assert said("id: a, tool: t, retry: {retry_on: [tool_exploded, timeout]}") == {}
    assert said("id: a, tool: t, retry: {retry_on: timeout}") == {}
    assert one("id: a, tool: t, retry: {retry_on: 5}") == "retry_on must be a list, not integer"


def test_row_46_a_branch_that_names_a_missing_step_is_refused() -> None:
    assert "unknown step 'nope' in the branch else" in one(
        "id: a, transform: 1\nid: c, condition: 'true', then: [a], else: [nope]"
    )


@pytest.mark.parametrize(
    "steps",
    [
        "id: a, transform: 1, depends_on: [c]\nid: b, transform: 1, depends_on: [a]\nid: c, transform: 1, depends_on: [b]",
        "id: a, transform: '{{ steps.c.output }}'\nid: b, transform: '{{ steps.a.output }}'\nid: c, transform: '{{ steps.b.output }}'",
        "id: a, condition: 'true', then: [b]\nid: b, transform: 1\nid: c, transform: 1, depends_on: [b]\nid: d, transform: 1",
    ],
)
def test_row_47_a_cycle_is_refused_and_its_steps_are_named(steps: str) -> None:
    if "condition" in steps:
        steps = steps.replace("condition: 'true'", "condition: 'steps.c.output == 1'")
    message = one(steps)
    assert "steps need each other in a cycle: " in message
    way = message.rsplit(" ", 1)[1].split("-")
    assert way[0] == way[-1]
    assert {"a", "b", "c"} == set(way)


def test_row_100_what_is_wrong_with_a_graph_is_listed_together() -> None:
    found = said(
        "id: a, transform: 1, depends_on: [b]\nid: b, transform: 1, depends_on: [a, zz]\nid: c, transform: '{{ steps.yy.output }}'"
    )
    assert len(found) == 3
    assert sorted(found.values()) == ["cycle_detected", "unknown_dependency", "unknown_dependency"]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("id: a, transform: '{{ steps.a.output }}'", "refers to itself"),
        ("id: a, transform: 1, depends_on: [a]", "depends on itself"),
        ("id: a, transform: '{{ inputs.nope }}'", "unknown input 'nope'"),
        ("id: a, transform: '{{ variables.nope }}'", "unknown variable 'nope'"),
        ("id: a, transform: '{{ item }}'", "there is no item here"),
        ("id: a, transform: '{{ output }}'", "there is no output here"),
        ("id: a, transform: '{{ 1 + }}'", "1 +"),
        ("id: a, transform: '{{ 1'", "never closed"),
        ("id: a, transform: \"{{ 1 + 'a' }}\"", "type error"),
        ("id: a, transform: 1, condition: '1 +'", "1 +"),
        ("id: a, transform: 1, condition: '1 + 1'", "true or false"),
        ("id: a, transform: '{{ nope.x }}'", "unknown name 'nope'"),
        ("id: a, gate: {type: file_exist, pattern: x}", "unknown gate 'file_exist'; did you mean file_exists?"),
        ("id: a, gate: {type: llm_check}", "gate type 'llm_check' is not built yet"),
        ("id: a, gate: {type: tool_check}", "gate type 'tool_check' is not built yet"),
        ("id: a, gate: {type: file_exists}", "pattern is missing"),
        ("id: a, gate: {type: content_check, file: x}", "required_sections, pattern or both"),
        ("id: a, gate: {type: artifact_exists, artifact_type: fil}", "did you mean file?"),
        ("id: a, gate: {type: metric_threshold, metric: m, operator: '=>', threshold: 1}", "operator must be one of"),
        ("id: a, gate: {type: metric_threshold, metric: m, operator: '>', threshold: x}", "threshold must be a number"),
        ("id: a, gate: {type: jury_score, threshold: 101}", "from 0 to 100"),
        ("id: a, gate: {type: expression, expression: 'size('}", "size("),
        ("id: a, gate: {type: expression, expression: '1 + 1'}", "true or false"),
        ("id: a, gate: {type: file_exists, pattern: x, patern: y}", "unknown field 'patern'"),
        ("id: a, map: x, transform: 1", "map must be a list"),
        ("id: a, transform: 1, retry: 3", "a transform step takes no retry"),
        ("id: a, approval: {}, retry: 3", "an approval step takes no retry"),
        ("id: a, approval: {}, timeout: 5s", "`expires` of the approval bounds it"),
        ("id: a, wait: 9s, timeout: {queue: 5s}", "a wait step has no queue timeout: no worker performs it"),
        ("id: a, wait: {signal: x}, timeout: 5s", "`timeout` of the wait bounds a wait for a signal"),
        ("id: a, wait: {run: x, event: step.succeded}", "no run has an event 'step.succeded'; did you mean"),
        ("id: a, wait: {run: x, event: steps.succeeded}", "no run has an event 'steps.succeeded'; did you mean"),
        ("id: a, transform: 1, timeout: {step: 5s}", "a transform step has no step timeout"),
        ("id: a, sub_workflow: kid, timeout: 5s", "`timeout: {step: …}` bounds it"),
        ("id: a, tool: x, timeout: 25h", "an attempt may take 24h at most, not 25h"),
        ("id: a, tool: x, timeout: {attempt: 3d}", "an attempt may take 24h at most, not 3d"),
        ("id: a, tool: x, compensate: {tool: y, timeout: 25h}", "an attempt may take 24h at most"),
        ("id: a, tool: x, retry: {retry_on: [timeout, validation_error]}", "validation_error is never tried again"),
        ("id: a, tool: x, retry: {retry_on: []}", "retry_on names no error"),
        ("id: a, tool: x, retry: {backoff: {initial: 5m, max: 1m}}", "the first is 5m already"),
        ("id: a, tool: '{{ inputs.x }}'", "must be stated"),
        ("id: a, condition: 'true'", "needs steps in then, else or both"),
    ],
)
def test_what_is_wrong_with_a_step_is_said(steps: str, expected: str) -> None:
    assert expected in one(steps)


def test_a_limit_is_named_as_the_document_names_it() -> None:
    (problem,) = validate(whole("id: a, tool: x, timeout: {step: 3}"))
    assert problem.path == "spec.steps[0].timeout.step"
    assert problem.message.startswith("timeout.step: 3 is not a duration")
    (problem,) = validate(whole("id: a, tool: x, timeout: {attempt: soon}"))
    assert problem.path == "spec.steps[0].timeout.attempt"
    (problem,) = validate(whole("id: a, tool: x, timeout: {attempt: 5s, step: 3s}"))
    assert problem.path == "spec.steps[0].timeout.step"
    (problem,) = validate(whole("id: a, tool: x, step_timeout: 3"))
    assert problem.message.startswith("step_timeout: 3 is not")


def test_limits_of_what_workers_and_children_perform_are_accepted() -> None:
    assert not said(
        """id: a, tool: x, timeout: {queue: 5s, attempt: 24h, step: 2d}, retry: {backoff: 5m}
           id: b, sub_workflow: kid, timeout: {step: 1h}
           id: c, gate: {type: file_exists, pattern: x}, timeout: {queue: 5s, step: 1m}"""
    )


def test_what_a_map_an_artifact_and_a_template_may_refer_to_is_accepted() -> None:
    assert not said(
        """id: a, map: '{{ inputs.list }}', tool: x, with: {p: '{{ item }}', n: '{{ index }}'}
           id: b, tool: x, artifacts: [{type: file, label: l, value: '{{ output.path }}'}], depends_on: [a]
           id: c, gate: {type: metric_threshold, metric: m, operator: '>', threshold: '{{ inputs.n }}'}""",
        "  inputs: {list: array, n: number}\n",
    )


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        ("type: event, event: x, when: 'event.action =='", "event.action =="),
        ("type: event, event: x, when: 'steps.a.output'", "there is no steps here"),
        ("type: event, event: x, when: '1 + 1'", "true or false"),
        ("type: event, event: 'a b'", "not the name of a trigger event"),
        ("type: event", "event is missing"),
        ("type: event, event: x, inputs: {nope: 1}", "unknown input 'nope'"),
        ("type: webhook", "trigger type 'webhook' is not built yet"),
    ],
)
def test_row_65_a_broken_trigger_is_refused_when_saved(trigger: str, expected: str) -> None:
    assert expected in one("id: a, transform: 1", f"  triggers: [{{{trigger}}}]\n")


def test_row_65_a_trigger_with_a_condition_is_accepted() -> None:
    assert not said(
        "id: a, transform: 1",
        "  inputs: {n: any}\n  triggers: [{type: event, name: x.y, when: \"event.action == 'opened'\", inputs: {n: '{{ event.n }}'}}]\n",
    )


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ("n: {type: integer, default: x}", "not of type integer"),
        ("n: {type: strng}", "did you mean string?"),
        ("n: {type: string, default: a, required: true}", "cannot be required"),
    ],
)
def test_wrong_inputs_are_refused(inputs: str, expected: str) -> None:
    assert expected in one("id: a, transform: 1", f"  inputs: {{{inputs}}}\n")


def test_a_tool_plan_is_a_chain_of_tools() -> None:
    assert "is a transform" in one("id: a, transform: 1", kind="ToolPlan")
    assert not said("tool: x\ntool: y, requires_confirmation: true", kind="ToolPlan")


def dashboard(metrics: str, views: str) -> list[str]:
    text = (
        "apiVersion: headrace/v1\nkind: Dashboard\nmetadata: {name: d}\n"
        f"spec:\n  metrics: [{metrics}]\n  views: [{views}]\n"
    )
    return [problem.message for problem in validate(read_one(text))]


SOURCE = "source: {integration: github, operation: issues}"
COUNT = f"{{id: m, {SOURCE}}}"
NUMBER = "{id: v, type: metric, metric: m}"


@pytest.mark.parametrize(
    ("metrics", "views", "expected"),
    [
        (f"{{id: m, {SOURCE}, aggregate: count, field: x}}", NUMBER, "a count takes no field"),
        (f"{{id: m, {SOURCE}, aggregate: sum}}", NUMBER, "sum needs the field"),
        (f"{COUNT}, {COUNT}", NUMBER, "duplicate metric id 'm'"),
        (COUNT, f"{NUMBER}, {NUMBER}", "duplicate view id 'v'"),
        (COUNT, f"{{id: v, type: table, metricId: m, {SOURCE}}}", "takes no metric"),
        (COUNT, "{id: v, type: chart}", "a chart needs a metric"),
        (COUNT, "{id: v, type: metric, metric: n}", "unknown metric 'n'"),
        (COUNT, "{id: v, type: table}", "a table needs a source"),
        (COUNT, "", "views must not be empty"),
    ],
)
def test_row_93_a_wrong_dashboard_is_refused_with_its_message(metrics: str, views: str, expected: str) -> None:
    found = dashboard(metrics, views)
    assert len(found) == 1, found
    assert expected in found[0]


def test_a_right_dashboard_is_accepted() -> None:
    assert not dashboard(COUNT, f"{NUMBER}, {{id: t, type: table, {SOURCE}, sort: {{field: a, direction: desc}}}}")


def test_problems_become_one_error_that_lists_them() -> None:
    with pytest.raises(ValidationError, match="duplicate step ID") as caught:
        raise validate(
            read_one(
                "apiVersion: headrace/v1\nkind: Workflow\nmetadata: {name: w}\n"
                "spec: {steps: [{id: a, transform: 1}, {id: a, transform: 1}]}"
            )
        ).error()
    assert caught.value.details["problems"][0]["line"] == 4
