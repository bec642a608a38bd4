"""`POST /simulate`: what the command line tells, over HTTP; nothing is performed, nothing is kept, nothing blocks."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec
import pytest
from pydantic import BaseModel

from headrace import codec
from headrace.errors import ToolNotFoundError, UnavailableError, UnprocessableError, ValidationError
from headrace.testing.prediction import told as parts
from headrace.testing.prediction.apart import Wanted, predict_apart
from headrace.testing.prediction.scenario import Scenario
from headrace_api import simulated
from headrace_api.turns import Turns
from tests.api.kit import SIGN_OFF, World, step, workflow

WITH_ALL: Final = workflow(
    "all",
    [
        step("echo", "say", what="{{ inputs.what }}"),
        {**step("broken", "shaky"), "on_error": "continue", "retry": {"max_attempts": 2}},
        {**SIGN_OFF, "depends_on": ["say"]},
        {"id": "go", "wait": {"signal": "go"}, "depends_on": ["sign_off"]},
        {"id": "pause", "wait": {"timer": "1h"}, "depends_on": ["go"]},
    ],
    inputs={"what": {"type": "string", "required": True}},
)
PATIENCE_S: Final = 60.0
SHAPES: Final[dict[type[msgspec.Struct], type[BaseModel]]] = {
    parts.Told: simulated.Simulated,
    parts.StepTold: simulated.SimulatedStep,
    parts.EffectTold: simulated.SimulatedEffect,
    parts.PermissionTold: simulated.SimulatedPermission,
    parts.ApprovalTold: simulated.SimulatedApproval,
    parts.WaitTold: simulated.SimulatedWait,
    parts.OpenTold: simulated.SimulatedOpen,
    parts.HappeningTold: simulated.SimulatedHappening,
}


async def by_command_line(world: World, file: Path, *options: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace.cli.main", "simulate", str(file), "-o", "json", *options,
        "--url", world.url, "--token", world.tokens["viewer"],
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    return json.loads(out)


async def positions(world: World) -> Any:
    return [(row["log"], row["partition"], row["last_position"]) for row in await world.log.partitions()]


async def test_it_tells_what_the_command_line_tells_and_keeps_nothing(
    world: World, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    file = tmp_path / "all.json"
    file.write_bytes(codec.dumps(WITH_ALL))
    options = ("--input", "what=x", "--fail", "shaky=timeout", "--signal", 'go={"now": true}', "--stub", 'say={"a": 1}')
    said = codec.dumps(await by_command_line(world, file, *options)).decode()
    for option, field in (("--fail shaky=timeout", "`fail.shaky`"), ("--reject STEP", "`reject`")):
        assert option in said
        said = said.replace(option, field)
    expected = json.loads(said)
    before = await positions(world)
    body = {
        "spec": WITH_ALL, "inputs": {"what": "x"}, "fail": {"shaky": "timeout"}, "signals": {"go": [{"now": True}]},
        "stubs": {"say": {"a": 1}},
    }  # fmt: skip
    response = await http.post("/simulate", json=body, timeout=PATIENCE_S)
    assert response.status_code == 200, response.text
    assert response.json() == expected
    simulated.Simulated.model_validate_json(response.content)
    assert (expected["status"], expected["virtual_s"] >= 3_600.0) == ("succeeded", True)
    assert [each["decision"] for each in expected["approvals"]] == ["approved"]
    assert (await positions(world), world.performed) == (before, [])
    assert (await http.get("/plans")).json()["items"] == []

    recorded = await http.post("/plans", json={"spec": WITH_ALL})
    assert recorded.json()["digest"] == expected["plan_digest"], "it is the plan that would really run"


async def test_the_client_tells_it_and_what_people_refuse_or_leave_open_is_supposed(world: World) -> None:
    async with world.client("operator") as client:
        told = await client.simulate(WITH_ALL, inputs={"what": "x"}, reject=["sign_off"])
        assert (told["status"], told["error"]["type"]) == ("failed", "confirmation_denied")
        told = await client.simulate(codec.dumps(WITH_ALL).decode(), inputs={"what": "x"}, approve=[])
        assert told["status"] == "waiting"
        assert [(each["step"], each["waits_for"]) for each in told["open"]] == [("sign_off", "approval")]
        parent = workflow("parent", [{"id": "child", "sub_workflow": {"workflow": "kid"}}])
        with pytest.raises(ValidationError, match="it runs the workflow kid"):
            await client.simulate(parent)
        told = await client.simulate(parent, also=[workflow("kid", [step("echo")])])
        assert [each["run"] + each["step"] for each in told["effects"]] == ["child/one"]


REFUSED: Final[tuple[tuple[dict[str, Any], str, str], ...]] = (
    ({}, "missing_argument", "spec"),
    ({"spec": workflow("w", [])}, "validation_error", "steps"),
    ({"spec": "apiVersion: ["}, "validation_error", "line 1"),
    ({"spec": workflow("w", [step("no_such")])}, "tool_not_found", "no_such"),
    ({"spec": WITH_ALL}, "missing_argument", "what"),
    ({"spec": workflow("w", [step("echo")]), "stubs": {"two": 1}}, "validation_error", "no such step"),
    ({"spec": workflow("w", [step("echo")]), "stups": {}}, "validation_error", "did you mean stubs?"),
    ({"spec": workflow("w", [step("echo")]), "also": ["x"] * 51}, "validation_error", "also"),
)


async def test_what_cannot_be_simulated_is_refused_with_the_reason(http: httpx2.AsyncClient) -> None:
    for body, kind, said in REFUSED:
        response = await http.post("/simulate", json=body, timeout=PATIENCE_S)
        error = response.json()["error"]
        assert (response.status_code, error["type"]) == (400, kind), error
        assert said in error["message"]


async def test_it_is_for_who_may_compile(world: World) -> None:
    for role, status in (("viewer", 403), ("approver", 403), ("operator", 400), (None, 401)):
        async with world.http(role) as http:
            assert (await http.post("/simulate", json={})).status_code == status, role


async def test_another_workspace_s_tools_are_not_known(world: World) -> None:
    async with world.client("stranger") as client:
        with pytest.raises(ToolNotFoundError, match="echo"):
            await client.simulate(workflow("w", [step("echo")]))


async def test_one_that_takes_too_long_is_ended_and_refused() -> None:
    wanted = Wanted(text=codec.dumps(workflow("w", [{"id": "one", "transform": 1}])).decode())
    with pytest.raises(UnprocessableError, match=r"takes longer than 0\.01 s; `headrace simulate`"):
        await predict_apart(wanted, seconds=0.01)


async def test_one_that_has_too_much_to_tell_is_refused() -> None:
    much = "x" * 500_000
    doubled = [{"id": f"s{n}", "transform": "{{ inputs.much + inputs.much }}"} for n in range(40)]
    spec = workflow("w", doubled, inputs={"much": {"type": "string"}})
    wanted = Wanted(text=codec.dumps(spec).decode(), scenario=Scenario(inputs={"much": much}))
    with pytest.raises(ValidationError, match=r"is \d+ bytes long, over 16777216; `headrace simulate`"):
        await predict_apart(wanted)


async def test_who_finds_no_room_is_told_to_come_again() -> None:
    with pytest.raises(UnavailableError, match="ask again"):
        await Turns(most=0, patience_s=0.01).predict(Wanted(text=""))


@pytest.mark.parametrize("told", SHAPES, ids=lambda told: told.__name__)
def test_what_is_published_is_what_is_told(told: type[msgspec.Struct]) -> None:
    known = {field.name: field.required for field in msgspec.structs.fields(told)}
    shape = SHAPES[told]
    assert {name: field.is_required() for name, field in shape.model_fields.items()} == known
