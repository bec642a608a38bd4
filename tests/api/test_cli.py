"""The command line against a running api: what it prints, and with which code it ends."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import codec
from headrace.cli.main import invoke
from tests.api.kit import BIG, SIGN_OFF, World, step, until, workflow

UNHEARD = "no workflow declares 'push' in its triggers: only runs that wait for it hear it\n"
Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def cli(world: World, capsys: pytest.CaptureFixture[str]) -> Run:
    async def run(*arguments: str, role: str = "admin") -> tuple[int, str, str]:
        given = [*arguments, "--url", world.url, "--token", world.tokens[role]]
        code = await asyncio.to_thread(invoke, given)
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        return code, told.out, told.err

    return run


def written(folder: Path, *steps: dict[str, Any], **more: Any) -> str:
    file = folder / "w.json"
    file.write_text(json.dumps(workflow("w", list(steps), **more)))
    return str(file)


async def test_a_run_in_a_pipe_is_plain_lines_and_code_0(cli: Run, tmp_path: Path) -> None:
    file = written(
        tmp_path,
        step("echo", value="{{ inputs.n }}"),
        inputs={"n": {"type": "integer"}},
        outputs="{{ steps.one.output }}",
    )
    code, out, err = await cli("run", file, "--input", "n=3")
    assert (code, err) == (0, "")
    assert "one succeeded" in out
    assert '{"said":{"value":3}}' in out
    code, out, _ = await cli("run", file, "--inputs", '{"n": 4}', "-o", "json")
    assert (code, json.loads(out)["outputs"]) == (0, {"said": {"value": 4}})


async def test_a_failed_run_is_code_1_with_its_error(cli: Run, tmp_path: Path) -> None:
    code, _, err = await cli("run", written(tmp_path, step("broken")))
    assert code == 1
    assert "API rate limit exceeded" in err


async def test_a_connections_settings_are_json_where_they_are_json_and_text_where_not(cli: Run) -> None:
    asked = ("connections", "set", "github", "--secret", "token=env:T", "-o", "json")
    given = ("rate_limit=100/1m", "per_page=50", "base_url=http://127.0.0.1:9", "deep=true", 'of={"a": 1}', "empty=")
    code, out, err = await cli(*asked, *(word for one in given for word in ("--setting", one)))
    assert (code, err) == (0, "")
    settings = {"rate_limit": "100/1m", "per_page": 50, "base_url": "http://127.0.0.1:9", "deep": True, "of": {"a": 1}}
    assert json.loads(out)["settings"] == {**settings, "empty": ""}
    code, _, err = await cli(*asked, "--setting", "of={a")
    assert (code, "--setting: not JSON" in err) == (2, True)


async def test_what_is_asked_for_by_name_and_is_not_there_is_code_1(cli: Run, world: World) -> None:
    for kind in ("tool", "worker", "token", "artifact", "workflow", "connection", "run"):
        for shown in ("text", "json"):
            code, out, err = await cli("get", kind, "ghost", "-o", shown)
            assert (code, out) == (1, ""), (kind, shown, out)
            assert err.startswith("error: not_found: "), (kind, err)
    await world.announce_integration("github.issues", "github")
    code, _, err = await cli("connections", "set", "mine")
    assert (code, "'mine'; there are: github -> say which it is by --integration" in err) == (2, True), err


async def test_a_run_that_waits_for_somebody_is_code_3_and_is_approved_by_another(cli: Run, tmp_path: Path) -> None:
    code, out, err = await cli("run", written(tmp_path, SIGN_OFF))
    assert (code, "sign_off waits for approval" in out) == (3, True)
    assert "headrace approvals approve apr_" in err

    # What the hint names can be decided at once: the command ends only when the request is open.
    _, out, _ = await cli("approvals", "list", "-o", "json")
    (approval,) = json.loads(out)["items"]
    assert approval["id"] in err
    code, _, err = await cli("approvals", "approve", approval["id"])
    assert (code, err.count("\n")) == (1, 1)
    assert "forbidden" in err
    zeros = "sha256:" + "0" * 64
    code, _, err = await cli("approvals", "approve", approval["id"], "--digest", zeros, role="approver")
    assert (code, zeros in err, approval["digest"] in err) == (1, True, True)
    code, out, _ = await cli("approvals", "approve", approval["id"], role="approver")
    assert code == 0
    assert codec.digest(approval["shown"]) in out


async def test_a_parked_message_that_was_seen_to_is_dismissed_by_an_operator(cli: Run, world: World) -> None:
    await world.bus.publish_lines(b"not json")

    async def parked() -> Any:
        return (await world.log.parked()) or None

    (kept,) = await until(parked)
    _, out, _ = await cli("doctor")
    assert "headrace doctor --dismiss ID" in out
    code, _, err = await cli("doctor", "--dismiss", str(kept.id), role="viewer")
    assert (code, "forbidden" in err) == (1, True)
    _, out, err = await cli("doctor", "--dismiss", str(kept.id), "--dismiss", "99", role="operator")
    assert ("parked" in out, err) == (False, "no message is parked under 99\n")
    assert await world.log.parked() == []


async def test_of_a_quorum_it_is_said_who_has_approved_and_how_many_must(cli: Run, tmp_path: Path) -> None:
    two = {"id": "sign_off", "approval": {"roles": ["approver"], "quorum": 2, "prompt": "Go on?"}}
    _, _, err = await cli("run", written(tmp_path, two))
    approval = next(word for word in err.split() if word.startswith("apr_"))
    said = "2 people with the role approver must approve, 1 of them so far (approver)"
    code, out, _ = await cli("approvals", "approve", approval, role="approver")
    assert (code, out.splitlines()[-1]) == (0, f"{approval}: pending: {said}")
    _, out, _ = await cli("approvals", "list")
    assert "2 people with the role approver, 1 of them so far (approver)" in out
    _, out, _ = await cli("runs", "list", "-o", "json")
    _, out, _ = await cli("runs", "show", json.loads(out)["items"][0]["id"])
    assert f"waits for approval: sign_off: {said} until " in out
    _, out, _ = await cli("approvals", "show", approval)
    assert said in out


async def test_everything_can_be_listed_as_text_and_json(cli: Run, tmp_path: Path) -> None:
    file = written(tmp_path, step("echo"))
    assert (await cli("apply", file))[0] == 0
    assert (await cli("apply", "-f", file))[0] == 0
    _, out, _ = await cli("run", "w", "-o", "json")
    run = json.loads(out)["id"]
    for command in (
        ["runs", "list"], ["runs", "show", run], ["runs", "events", run], ["runs", "logs", run], ["runs", "result", run],
        ["runs", "explain", run], ["runs", "events", run, "-f"], ["get", "workflows"], ["get", "workflow", "w"],
        ["get", "tools"], ["workers"], ["tools", "echo"], ["plan", file], ["tokens", "list"], ["connections", "list"],
        ["approvals", "list", "--status", "all"], ["get", "flows"], ["trigger", "push", "--data", '{"a": 1}'],
    ):  # fmt: skip
        code, out, err = await cli(*command)
        note = "(none)\n" if out.count("\n") == 1 and out.isupper() else ""
        assert (code, err) == (0, UNHEARD if command[0] == "trigger" else note), (command, err)
        assert out, command
        code, out, err = await cli(*command, "-o", "json")
        assert code == 0, (command, err)
        for document in [out] if command[1:2] != ["events"] else out.splitlines():
            json.loads(document)
    assert (await cli("doctor"))[0] in {0, 1}


async def test_a_plan_is_shown_and_compared(cli: Run, tmp_path: Path) -> None:
    file = written(tmp_path, step("echo"), SIGN_OFF)
    code, out, _ = await cli("plan", file)
    assert code == 0
    assert "sign_off" in out
    assert "sha256:" in out
    other = tmp_path / "other.json"
    other.write_text(json.dumps(workflow("w", [step("echo", value=2), SIGN_OFF])))
    code, out, _ = await cli("plan", str(other), "--diff", file)
    assert (code, "~ step one" in out) == (0, True), out


async def test_several_documents_are_applied_in_order_and_a_workflow_is_planned_run_and_listed(
    cli: Run, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    text = {"n": {"type": "string", "default": "x"}}
    first.write_text(json.dumps(workflow("inner", [step("echo")], inputs=text, outputs="{{ inputs.n }}")))
    inner = {"id": "one", "sub_workflow": {"workflow": "inner"}}
    second.write_text(json.dumps(workflow("outer", [inner])))
    code, out, _ = await cli("apply", str(first), str(second))
    assert (code, [line.split(":")[0] for line in out.splitlines()]) == (0, ["Workflow inner", "Workflow outer"])
    code, out, _ = await cli("plan", "outer")
    assert (code, "runs inner" in out) == (0, True)
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(workflow("w", [{"id": "one", "depends_on": ["gone"], "transform": 1}])))
    code, _, err = await cli("apply", str(first), str(wrong))
    assert (code, f"{wrong}: " in err, "'gone'" in err) == (2, True, True)
    code, _, err = await cli("plan", "nobody")
    assert (code, "there is no workflow 'nobody'" in err) == (1, True)
    for _ in range(2):
        code, out, err = await cli("run", "inner", "-i", "n=404")
        assert (code, out.splitlines()[-1]) == (0, '"404"'), err
    code, out, err = await cli("runs", "list", "--limit", "1")
    assert (out.count("run_"), "--all lists them" in err) == (1, True)
    code, out, err = await cli("runs", "list", "--all")
    assert (out.count("run_"), err) == (2, "")
    code, _, err = await cli("runs", "list", "--workflow", "nobody")
    assert "never applied" in err


async def test_a_plan_names_the_steps_that_are_dispatched_together(cli: Run, tmp_path: Path) -> None:
    after = {**step("echo"), "id": "two", "depends_on": ["one"]}
    file = tmp_path / "chain.json"
    file.write_text(json.dumps(workflow("w", [step("echo"), after])))
    _, out, _ = await cli("plan", str(file))
    assert "Fused: one → two" in out
    _, out, _ = await cli("plan", str(file), "-o", "json")
    assert json.loads(out)["fused"] == [["one", "two"]]


async def test_a_token_is_printed_once(cli: Run) -> None:
    code, out, _ = await cli("tokens", "create", "ci", "--role", "viewer")
    assert (code, out.strip().startswith("hr_")) == (0, True)


async def test_acting_on_a_finished_run_is_one_line_with_a_remedy(cli: Run, tmp_path: Path) -> None:
    _, out, _ = await cli("run", written(tmp_path, step("echo")), "-o", "json")
    code, _, err = await cli("runs", "cancel", json.loads(out)["id"])
    assert (code, err.count("\n"), "->" in err) == (1, 1, True)


async def test_a_document_of_50_mb_is_code_2_like_any_bad_document(cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text("# " + "x" * 50_000_000)
    for command in (("run", str(file)), ("plan", str(file)), ("apply", "-f", str(file))):
        code, _, err = await cli(*command)
        assert (code, err.count("\n"), "limit" in err) == (2, 1, True), (command, err)


async def test_what_a_newcomer_meets_says_what_to_do(cli: Run, world: World, tmp_path: Path) -> None:
    code, _, err = await cli("run", written(tmp_path, SIGN_OFF))
    assert (code, "-> somebody other than admin: headrace approvals approve apr_" in err) == (3, True), err
    _, out, _ = await cli("approvals", "list")
    assert "1 approver" in out
    keyed = written(tmp_path, step("echo"), concurrency={"key": "one", "limit": 2})
    code, out, _ = await cli("run", keyed)
    assert "the run asks for the concurrency key 'one'" in out
    _, out, _ = await cli("get", "flows", "-o", "json")
    (known,) = json.loads(out)["items"]
    _, out, _ = await cli("get", "flows")
    assert known["id"] in out, "by which it is shown"
    _, out, _ = await cli("runs", "list", "-o", "json")
    run = json.loads(out)["items"][0]["id"]
    code, out, _ = await cli("runs", "logs", run)
    assert out.splitlines()[0].endswith("Run queued of w"), "its name, not its kind"
    code, _, err = await cli("runs", "settle", run, "one", "--happened", "--output", "7")
    assert (code, "the run is over: succeeded" in err) == (1, True), err
    _, out, _ = await cli("runs", "explain", run)
    assert out.startswith(f"{run}: succeeded\n")
    assert (await cli("apply", keyed))[0] == 0
    _, out, _ = await cli("get", "workflows")
    assert " yes " in out


async def test_a_kept_output_and_a_steps_output_are_printed_as_they_are(cli: Run, tmp_path: Path) -> None:
    file = written(tmp_path, step("filed"), {**step("big", "two"), "depends_on": ["one"]})
    _, out, _ = await cli("run", file, "-o", "json")
    run = json.loads(out)["id"]
    _, out, _ = await cli("get", "artifacts", "-o", "json")
    (kept,) = json.loads(out)["items"]
    code, out, _ = await cli("get", "artifact", kept["id"])
    assert (code, out) == (0, "out/report.md")
    code, shown, _ = await cli("get", "artifact", kept["id"], "-o", "json")
    assert (code, json.loads(shown)["items"]) == (0, [kept])
    code, out, _ = await cli("runs", "result", run, "--step", "two")
    assert (code, json.loads(out)) == (0, {"text": BIG})
    code, out, err = await cli("runs", "result", run, "--step", "three")
    assert (code, out, "step 'three'" in err) == (1, "", True)


async def test_items_that_failed_are_counted_where_a_run_is_shown(cli: Run, tmp_path: Path) -> None:
    some = {"id": "one", "map": [1, 2, 3], "tool": "broken", "with": {}, "on_item_error": "collect"}
    _, out, _ = await cli("run", written(tmp_path, some), "-o", "json")
    _, out, _ = await cli("runs", "show", json.loads(out)["id"])
    assert "3/3 (3 failed)" in out


async def asked(world: World) -> bool:
    return bool(world.performed)


async def run_it(cli: Run, file: str) -> tuple[int, str, str]:
    return await cli("run", file)


@pytest.mark.parametrize("before", ["echo", "hold"])
async def test_a_run_that_waits_for_a_signal_is_code_3_and_told_up_to_there(
    cli: Run, world: World, tmp_path: Path, before: str
) -> None:
    word = {"id": "word", "depends_on": ["one"], "wait": {"signal": "go.on"}}
    async with asyncio.TaskGroup() as group:
        following = group.create_task(run_it(cli, written(tmp_path, step(before), word)))
        await until(lambda: asked(world))
        world.go.set()
    code, out, err = following.result()
    assert (code, "one succeeded" in out, "word waits" in out) == (3, True, True), out
    assert "headrace runs signal run_" in err
    assert "go.on --data JSON" in err.replace("[", "").replace("]", "")
