"""Whatever stands where something else belongs is told as a problem at its place, and never as a fault of the program."""

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from headrace.errors import ValidationError
from headrace.specs.check import validate
from headrace.specs.documents import from_json, from_value, read_one
from headrace.specs.problems import MESSAGE_CHARS_MAX, Path

DOCUMENT: Final = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: odd, labels: {team: docs}, description: of every kind}
spec:
  inputs: {n: {type: integer, default: 3}, s: string}
  variables: {v: "{{ inputs.n + 1 }}"}
  automation: human_approval
  on_failure: stay
  timeout: 10m
  priority: 3
  fuse: false
  concurrency: {key: "k-{{ inputs.n }}", limit: 2, on_conflict: queue}
  triggers: [{type: event, event: ping, when: event.n > 1, inputs: {n: "{{ event.n }}"}}]
  outputs: {a: "{{ steps.look.output.count }}"}
  steps:
    - id: look
      tool: file_glob
      with: {pattern: "*"}
      retry: {max_attempts: 3, backoff: {initial: 1s, factor: 2, max: 10s, jitter: 0.1}, retry_on: [timeout]}
      timeout: {attempt: 5s, step: 10m, queue: 1m}
      on_error: continue
      artifacts: [{type: metric, label: l, value: "{{ output.count }}"}]
      outputs: {c: "{{ output.count }}"}
    - {id: each, map: "{{ steps.look.output.paths }}", transform: "{{ item }}", condition: inputs.n > 1}
    - {id: pick, condition: {expression: size(steps.each.output) > 1, then: [yes1], else: [no1]}}
    - {id: yes1, transform: 1}
    - {id: no1, type: transform, config: {value: 2}, depends_on: [pick]}
    - {id: rep, loop: {while: iteration < 3, steps: [nap], max_iterations: 5}}
    - {id: nap, wait: 5s}
    - {id: judge, gate: {type: expression, expression: 1 < 2, required: false}}
    - {id: ask, approval: {roles: [approver], quorum: 2, expires: 1d, prompt: "{{ inputs.n }}?"}}
    - id: put
      tool: file_write
      with: {path: a, contents: b}
      compensate: {tool: file_write, with: {path: a, contents: c}, retry: 2}
      precondition: file exists x
      requires_confirmation: true
    - {id: ask_far, http: {url: "https://example.org", method: GET, headers: {a: b}}}
    - {id: heed, wait: {signal: go.on, timeout: 2d}}
    - {id: after, wait: {run: "{{ inputs.s }}", event: step.succeeded, when: event.step == 'b'}}
    - {id: below, sub_workflow: {workflow: child, with: {x: "{{ inputs.n }}"}}}
"""
ODD: Final[tuple[Any, ...]] = (None, [], [[]], {"a": [1]}, 7, True, "", "{{ 1 + }}", "x" * 20_000)
"""What is put into every place of a document."""


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def with_(document: Any, path: Path, odd: Any) -> Any:
    changed = copy.deepcopy(document)
    here = changed
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = odd
    return changed


def test_whatever_stands_in_a_place_is_judged_without_a_fault() -> None:
    document = read_one(DOCUMENT).source.value
    assert not validate(from_value(document))
    for path in places(document):
        for odd in ODD:
            for problem in validate(from_value(with_(document, path, odd))):
                assert 0 < len(problem.message) <= MESSAGE_CHARS_MAX + len(" … "), (path, odd)
                assert "Input should" not in problem.message, (path, odd)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (("kind",), "kind must be a text, not array; there are: Workflow, ToolPlan, Dashboard"),
        (("spec", "automation"), "automation must be one of"),
        (("spec", "on_failure"), "on_failure must be one of"),
        (("spec", "triggers", 0, "type"), "type must be one of"),
        (("spec", "steps", 0, "retry", "retry_on", 0), "retry_on must be a text, not array"),
    ],
    ids=str,
)
def test_a_list_where_a_word_belongs_is_told_where_it_stands(path: Path, said: str) -> None:
    document = read_one(json.dumps(with_(read_one(DOCUMENT).source.value, path, [["x"]]), indent=1))
    (problem,) = [each for each in validate(document) if each.message.startswith(said)]
    assert document.source.place(path) == (problem.line, problem.column)


def test_an_unknown_kind_is_told_once_with_what_is_meant_or_what_there_is() -> None:
    said = [
        str(each)
        for word in ("Workfow", "Zebra")
        for each in validate(from_value({"kind": word}))
        if each.path == "kind"
    ]
    assert said == [
        "kind: unknown kind 'Workfow'; did you mean Workflow?",
        "kind: unknown kind 'Zebra'; there are: Workflow, ToolPlan, Dashboard",
    ]


def test_a_character_that_json_writes_as_two_escapes_is_one_whichever_way_it_is_read() -> None:
    value = with_(read_one(DOCUMENT).source.value, ("metadata", "description"), "a \U0001f6a2 sails")
    written = json.dumps(value)
    assert "\\ud83d\\udea2" in written
    assert read_one(written).value == from_json(written.encode()).value == from_value(value).value
    assert not validate(read_one(written))


@pytest.mark.parametrize("text", ["\ud83d", "\udea2\ud83d", {"\ud83d": 1}], ids=["half", "wrong way round", "key"])
def test_half_a_character_is_refused_with_its_place(text: Any) -> None:
    value = with_(read_one(DOCUMENT).source.value, ("spec", "variables", "v"), text)
    written = json.dumps(value, indent=1)
    with pytest.raises(ValidationError, match="half of a surrogate pair") as caught:
        read_one(written)
    line = next(number for number, each in enumerate(written.splitlines(), 1) if "\\u" in each)
    assert caught.value.details["problems"][0]["line"] == line
    with pytest.raises(ValidationError, match="half of a surrogate pair"):
        from_json(written.encode())
    assert "half of a surrogate pair" in str(next(iter(from_value(value).problems)))
