"""`headrace simulate`: the real graph with stubbed effects; nothing is performed, nothing leaves the machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import headrace
from headrace.cli.main import invoke
from headrace.errors import ValidationError
from headrace.testing.prediction.predict import missing, predict, tools_needed
from headrace.testing.prediction.scenario import Scenario
from headrace.testing.prediction.stubs import Remote, tools_here
from headrace.testing.prediction.told import StepTold, Told
from headrace.worker.manifests import manifest_of

HEAD = "apiVersion: headrace/v1\nkind: Workflow\nmetadata: {name: w}\nspec:\n"
ROUND_TRIP = (
    HEAD
    + """
  inputs: {deep: {type: boolean, default: false}}
  steps:
    - {id: read, tool: file_read, with: {path: a.txt}, on_error: continue,
       retry: {max_attempts: 3, backoff: {initial: 10s, factor: 2, jitter: 0}}}
    - {id: choice, condition: {expression: inputs.deep, then: [far], else: [near]}}
    - {id: far, transform: far, depends_on: [choice]}
    - {id: near, transform: near, depends_on: [choice]}
    - {id: pause, wait: {timer: 60s}, depends_on: [near]}
    - {id: night, wait: {timer: 9h}, depends_on: [near]}
    - {id: ask, approval: {roles: [approver], quorum: 2, prompt: "Really {{ steps.choice.status }}?"}, depends_on: [pause]}
    - {id: again, loop: {while: "iteration < 2", steps: [act]}, depends_on: [ask, night]}
    - {id: act, tool: file_read, with: {path: "a{{ iteration }}"}}
    - {id: put, tool: file_write, with: {path: b, contents: x}, depends_on: [again]}
    - {id: loose, tool: file_write, with: {path: c, contents: y}, depends_on: [near]}
"""
)
LISTED = (
    HEAD
    + """
  steps:
    - {id: find, tool: file_glob, with: {pattern: "*.md"}}
    - {id: each, map: "{{ steps.find.output.paths }}", tool: file_read, with: {path: "{{ item }}"}, on_item_error: collect}
    - {id: enough, gate: {type: expression, expression: "size(steps.find.output.paths) > 1", failure_message: too few}}
"""
)


def told(text: str, **supposed: Any) -> Told:
    return predict(text, Scenario(**supposed), tools_here())


def step(of: Told, name: str) -> StepTold:
    return next(each for each in of.steps if each.step == name)


def test_the_path_is_predicted_with_its_rounds_retries_waits_and_skips() -> None:
    found = told(ROUND_TRIP, failures={"read": "timeout"})
    assert (found.status, found.virtual_s, found.cost) == ("succeeded", 9 * 3600.0, "not known")
    assert {each.step: each.status for each in found.steps} == {
        "read": "failed", "choice": "succeeded", "far": "skipped", "near": "succeeded", "pause": "succeeded",
        "night": "succeeded", "ask": "succeeded", "again": "succeeded", "act": "succeeded", "put": "succeeded",
        "loose": "succeeded",
    }  # fmt: skip
    read = step(found, "read")
    assert (read.attempts, read.ended_s, read.error and read.error["type"]) == (3, 30.0, "timeout")
    assert (step(found, "again").rounds, step(found, "ask").began_s) == (2, 60.0)
    waits = [(wait.step, wait.waits_for, wait.seconds) for wait in found.waits]
    assert waits[-2:] == [("read", "retry", 10.0), ("read", "retry", 20.0)]
    assert set(waits[:-2]) == {("pause", "timer", 60.0), ("night", "timer", 32_400.0)}
    order = [each.data["step"] for each in found.path if each.type == "step.succeeded"]
    assert order == ["choice", "near", "loose", "pause", "ask", "night", "act", "act", "again", "put"]


def test_effects_permissions_and_approvals_are_listed_as_they_would_be_met() -> None:
    found = told(ROUND_TRIP)
    effects = [(each.effect, each.step, each.arguments) for each in found.effects]
    assert effects == [
        ("read", "read", {"path": "a.txt"}),
        ("write", "loose", {"path": "c", "contents": "y"}),
        ("read", "act#1", {"path": "a1"}),
        ("read", "act#2", {"path": "a2"}),
        ("write", "put", {"path": "b", "contents": "x"}),
    ]
    cover = {each.step: (each.tool, each.covered_by[0]) for each in found.permissions}
    assert cover["put"][0] == "file_write"
    assert "whole run" in cover["loose"][1]
    approvals = {each.step: each for each in found.approvals}
    ask, whole = approvals["ask"], approvals[""]
    assert (ask.step, ask.roles, ask.quorum, ask.decision) == ("ask", ["approver"], 2, "approved")
    assert (ask.shown["prompt"], whole.step) == ("Really succeeded?", "")


def test_a_rejected_approval_fails_the_run_and_an_undecided_one_holds_it() -> None:
    rejected = told(ROUND_TRIP, rejected=frozenset({"ask"}))
    assert (rejected.status, rejected.error and rejected.error["type"]) == ("failed", "confirmation_denied")
    assert step(rejected, "put").status == "not reached"
    held = told(ROUND_TRIP, approved=frozenset({"run"}))
    assert (held.status, [(each.step, each.waits_for) for each in held.open]) == ("waiting", [("ask", "approval")])
    assert "--approve ask" in held.open[0].remedy


def test_results_that_are_given_decide_maps_and_gates() -> None:
    listed = {"paths": ["x.md", "y.md", "z.md"], "count": 3, "truncated": False}
    stubs = {"find": {**_sampled("file_glob"), **listed}}
    found = told(LISTED, stubs=stubs, failures={"each[1]": "upstream_error"})
    each = step(found, "each")
    assert (found.status, each.items, each.items_failed, each.status) == ("succeeded", 3, 1, "succeeded")
    assert [call.arguments["path"] for call in found.effects[1:]] == ["x.md", "y.md", "z.md"]
    assert found.effects[2].error == "upstream_error"


def test_a_gate_judges_given_results_and_is_supposed_to_pass_over_made_up_ones() -> None:
    one = {"find": {**_sampled("file_glob"), "paths": []}}
    judged = told(LISTED, stubs=one)
    assert (judged.status, step(judged, "enough").status) == ("failed", "failed")
    assert "too few" in str(step(judged, "enough").error)
    forced = told(LISTED, failures={"enough": "tool_error"})
    assert (forced.status, step(forced, "enough").status) == ("failed", "failed")


PARENT = (
    HEAD
    + """
  steps:
    - {id: go, wait: {signal: go, timeout: 1d}}
    - {id: pushed, wait: {event: pushed, when: "event.branch == 'main'"}}
    - {id: kid, sub_workflow: {workflow: kid, with: {n: 2}}, depends_on: [go]}
"""
)
KID = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: kid}
spec:
  inputs: {n: {type: integer}}
  steps:
    - {id: build, tool: file_read, with: {path: "a{{ inputs.n }}"}}
    - {id: rest, wait: {timer: 2h}, depends_on: [build]}
"""


def test_signals_events_and_children_are_walked_as_they_are_supposed_or_named_as_what_is_missing() -> None:
    def parent(**supposed: Any) -> Told:
        return predict(PARENT, Scenario(**supposed), tools_here(), [KID])

    held = parent(signals={"pushed": ({"branch": "main"},)})
    assert (held.status, [(each.step, each.waits_for) for each in held.open]) == ("waiting", [("go", "signal")])
    assert "--signal go=JSON" in held.open[0].remedy
    both = {"go": (None,), "pushed": ({"branch": "main"},)}
    whole = parent(signals=both)
    assert (whole.status, whole.virtual_s) == ("succeeded", 7_200.0)
    assert [(each.run, each.step, each.arguments) for each in whole.effects] == [("kid/", "build", {"path": "a2"})]
    assert next(each.child for each in whole.steps if each.step == "kid") == "kid/"
    failed = parent(signals=both, failures={"kid/build": "upstream_error"})
    assert (failed.status, failed.error and failed.error["type"]) == ("failed", "upstream_error")
    with pytest.raises(ValidationError, match="--also FILE"):
        predict(PARENT, Scenario(), tools_here())


def _sampled(tool: str) -> dict[str, Any]:
    from headrace.specs.samples import sample

    made: dict[str, Any] = sample(tools_here()[tool].output.model_json_schema(mode="serialization"), "x")
    return made


@pytest.mark.parametrize(
    ("supposed", "says"),
    [
        ({"stubs": {"put": {"x": 1}}}, "--stub put: file_write gives no such result"),
        ({"stubs": {"nix": {}}}, "--stub nix: the plan has no such step"),
        ({"failures": {"pause": "timeout"}}, "no tool performs a step of kind wait"),
        ({"rejected": frozenset({"put"})}, "--reject put: no approval is asked for there"),
        ({"inputs": {"deep": 7}}, "deep"),
    ],
)
def test_what_the_plan_has_no_place_for_is_refused_by_name(supposed: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        told(ROUND_TRIP, **supposed)


def test_a_tool_plan_needs_its_authorisation_and_is_refused_without() -> None:
    plan = """
apiVersion: headrace/v1
kind: ToolPlan
metadata: {name: p}
spec: {steps: [{id: put, tool: file_write, with: {path: a, contents: b}, precondition: "file missing a"}]}
"""
    allowed = told(plan)
    assert (allowed.status, [each.decision for each in allowed.approvals]) == ("succeeded", ["approved"])
    assert any("precondition of put" in each for each in allowed.supposed)
    refused = told(plan, rejected=frozenset({"run"}))
    assert (refused.status, refused.effects, refused.error and refused.error["type"]) == (
        "refused",
        [],
        "not_authorized",
    )


def test_connections_and_tools_of_other_machines_are_supposed_and_absent_tools_named() -> None:
    text = HEAD + "  steps: [{id: far, tool: beam, with: {to: mars}}]\n"
    assert tools_needed([text]) == {"beam"}
    assert "beam" in str(missing({"beam"}).message)
    assert "--tools" in missing({"beam"}).message
    manifest = manifest_of(beam)
    found = predict(text, Scenario(), {"beam": Remote(manifest)})
    assert (found.status, found.effects[0].arguments, found.plan_digest) == (
        "succeeded",
        {"to": "mars"},
        predict(text, Scenario(), {"beam": beam}).plan_digest,
    )


class Beamed(BaseModel):
    """Where somebody is now."""

    at: str


PERFORMED: list[str] = []


@headrace.tool(effect="notify", access="auto")
def beam(to: str) -> Beamed:
    """Beam somebody somewhere."""
    PERFORMED.append(to)
    message = "this must never be performed"
    raise AssertionError(message)


GUARDED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from headrace.cli import commands
commands.app()
from headrace.cli.main import invoke
from headrace.testing.engine import Engine
import headrace.testing.prediction.predict, headrace.testing.processes as processes
for name in processes.offering("tools"): processes.installed(name)
wrong = []
def watch(event, arguments):
    if event.startswith(("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "subprocess", "os.system")):
        wrong.append((event, str(arguments)))
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        wrong.append((event, str(arguments)))
    if event in {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "tempfile.mkstemp", "tempfile.mkdtemp", "os.truncate"}:
        wrong.append((event, str(arguments)))
sys.addaudithook(watch)
code = invoke(["simulate", sys.argv[2], "--tools", sys.argv[3], "-o", "json"])
if wrong: print("TOUCHED", wrong, file=sys.stderr)
sys.exit(9 if wrong else code)
"""
OWN = """
import headrace
from pydantic import BaseModel
class Sent(BaseModel):
    id: int
@headrace.tool(effect="write", access="auto")
def send(to: str) -> Sent:
    "Send."
    open("/tmp/never", "w")
    raise SystemExit("performed")
"""


def _guarded(folder: Path, seed: str) -> subprocess.CompletedProcess[str]:
    (folder / "own.py").write_text(OWN)
    text = ROUND_TRIP + "    - {id: mail, tool: send, with: {to: ann}, depends_on: [put]}\n"
    (folder / "w.yaml").write_text(text)
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed,
        "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", GUARDED, str(folder), str(folder / "w.yaml"), str(folder / "own.py")],
        capture_output=True, text=True, cwd=folder, env=environment, check=False, timeout=60,
    )  # fmt: skip


def test_no_performer_is_called_no_file_or_socket_touched_and_the_same_comes_out_every_time(tmp_path: Path) -> None:
    first, second = _guarded(tmp_path, "1"), _guarded(tmp_path, "2")
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    body = json.loads(first.stdout)
    assert body["effects"][-1]["tool"] == "send"
    assert body["effects"][-1]["arguments"] == {"to": "ann"}
    assert PERFORMED == []


def test_an_expression_that_fails_for_want_of_a_made_up_result_names_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.py").write_text(
        "import headrace\n@headrace.tool\ndef count() -> dict[str, int]:\n    'Count.'\n    return {'n': 1}\n"
    )
    steps = "  steps:\n    - {id: one, tool: count}\n    - {id: two, transform: '{{ steps.one.output.n }}'}\n"
    (tmp_path / "w.yaml").write_text(HEAD + steps)
    asked = ["simulate", str(tmp_path / "w.yaml"), "--tools", str(tmp_path / "own.py")]
    assert invoke(asked) == 1
    said = capsys.readouterr().out
    assert "It would fail: expression_error: " in said
    assert "give them by --stub one=JSON." in said
    assert invoke([*asked, "--stub", 'one={"n": 3}']) == 0
    assert "--stub" not in capsys.readouterr().out
    (tmp_path / "top.yaml").write_text(HEAD.replace("name: w", "name: top") + "  steps: [{id: kid, sub_workflow: w}]\n")
    top = ["simulate", str(tmp_path / "top.yaml"), "--also", str(tmp_path / "w.yaml"), *asked[2:]]
    assert invoke(top) == 1
    assert "give them by --stub kid/one=JSON." in capsys.readouterr().out
    assert invoke([*top, "--stub", 'kid/one={"n": 3}']) == 0


def test_the_body_of_a_loop_without_a_round_is_skipped_as_it_would_be() -> None:
    steps = """
  steps:
    - {id: again, loop: {while: iteration < 0, steps: [inner, act]}}
    - {id: inner, loop: {while: iteration < 2, steps: [deep]}}
    - {id: deep, transform: 1}
    - {id: act, transform: 2}
    - {id: after, transform: "{{ steps.act.status }}"}
"""
    found = told(HEAD + steps)
    assert {each.step: each.status for each in found.steps} == {
        "again": "succeeded", "inner": "skipped", "deep": "skipped", "act": "skipped", "after": "succeeded",
    }  # fmt: skip
    assert (step(found, "act").reason, step(found, "after").output) == ("the loop 'again' ended without it", "skipped")


def test_a_round_is_that_of_the_loop_also_when_a_step_was_skipped_in_one_before() -> None:
    steps = """
  steps:
    - {id: again, loop: {while: iteration < 3, steps: [act, next]}}
    - {id: act, tool: file_read, condition: iteration != 1, with: {path: "a{{ iteration }}"}, on_error: continue}
    - {id: next, transform: "{{ steps.act.status }}"}
"""
    read = _sampled("file_read")
    found = told(HEAD + steps, stubs={"act#3": {**read, "contents": "third"}}, failures={"act#2": "timeout"})
    assert [(each.step, each.error) for each in found.effects] == [("act#2", "timeout"), ("act#3", None)]
    act = step(found, "act")
    assert (act.status, act.error, act.output["contents"], act.made_up) == ("succeeded", None, "third", False)


def test_a_result_that_is_kept_as_a_body_of_its_own_is_told_whole() -> None:
    steps = """
  steps:
    - {id: read, tool: file_read, with: {path: a}}
    - {id: size, transform: "{{ size(steps.read.output.contents) }}"}
"""
    long = {**_sampled("file_read"), "contents": "x" * 100_000}
    found = told(HEAD + steps, stubs={"read": long})
    assert (step(found, "read").output, step(found, "size").output) == (long, 100_000)
