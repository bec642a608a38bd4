"""Bodies that say a thing twice, or a number that JSON does not know, are refused by their field; nothing is guessed."""

from typing import Any

import httpx2
import pytest

from headrace import codec
from headrace.cli.inputs import inputs_of
from headrace.errors import ValidationError
from tests.api.kit import World, step, workflow

JSON = {"Content-Type": "application/json"}
SPEC = codec.dumps(workflow("one", [step("echo")])).decode()
BODIES = [
    ("POST", "/runs", '{"spec":%s,"inputs":{"a":1,"a":2}}', "inputs.a"),
    ("POST", "/runs", '{"spec":%s,"workflow":"x","workflow":"y"}', "workflow"),
    ("POST", "/runs", '{"spec":%s,"inputs":{"n":[1,Infinity]}}', "inputs.n.1"),
    ("POST", "/runs/batch", '{"runs":[{"spec":%s},{"spec":"","inputs":{"n":-Infinity}}]}', "runs.1.inputs.n"),
    ("POST", "/workflows", '{"spec":%s,"spec":{}}', "spec"),
    ("PUT", "/connections/one", '{"integration":"github","settings":{"a":{"b":1,"b":1}}}', "settings.a.b"),
    ("POST", "/triggers/push", '{"a":NaN}', "a"),
    ("POST", "/triggers/push", "Infinity", ""),
    ("POST", "/simulate", '{"spec":%s,"inputs":{"a":Infinity}}', "inputs.a"),
]


@pytest.mark.parametrize(("method", "path", "body", "field"), BODIES)
async def test_what_is_said_twice_or_is_no_number_is_refused_by_its_field(
    http: httpx2.AsyncClient, world: World, method: str, path: str, body: str, field: str
) -> None:
    text = body.replace("%s", SPEC)
    for headers in (JSON, {}, {"Content-Type": "application/cloudevents+json; charset=utf-8"}):
        answer = await http.request(method, path, content=text, headers=headers)
        error = answer.json()["error"]
        assert (answer.status_code, error["type"]) == (400, "validation_error"), answer.text
        assert [one["field"] for one in error["details"]["problems"]] == [field]
    assert world.bus.broker.triggers.last == 0
    assert (await http.get("/runs")).json()["items"] == []


async def test_json_within_text_is_held_to_the_same(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/runs", json={"spec": SPEC, "paramsJson": '{"a":1,"a":2}'})
    assert (answer.status_code, "paramsJson: a: is given twice" in answer.json()["error"]["message"]) == (400, True)
    spec: Any = SPEC[:-1] + ',"spec":{}}'
    answer = await http.post("/plans", json={"spec": spec})
    assert (answer.status_code, "spec" in answer.json()["error"]["message"]) == (400, True)


async def test_the_same_name_in_two_objects_is_no_repeat(http: httpx2.AsyncClient) -> None:
    text = '{"spec":%s,"labels":{"a":"1"},"subject":"a"}'.replace("%s", SPEC)
    assert (await http.post("/runs", content=text, headers=JSON)).status_code == 202


@pytest.mark.parametrize(
    ("single", "whole", "said"),
    [
        (['a={"x":1,"x":2}'], None, "--input a: x: is given twice"),
        (["a=1", "a=2"], None, "--input a is given twice, as '1' and '2'"),
        (['a={"x":NaN}'], None, "--input a: x: must be a number"),
        ([], '{"a":1,"a":2}', "--inputs: a: is given twice"),
        ([], '{"a":Infinity}', "--inputs: a: must be a number"),
        ([], "{a}", "--inputs: not JSON"),
    ],
)
def test_inputs_on_the_command_line_are_held_to_it_too(single: list[str], whole: str | None, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        inputs_of(single, whole)
    assert refused.value.message.startswith(said)


def test_what_is_no_json_on_the_command_line_is_text() -> None:
    single = ["a=NaN", "b={x", "c=1", "c=1", "d=Infinity", 'e={"x":1}']
    assert inputs_of(single, '{"c":2,"f":3}') == {
        "a": "NaN", "b": "{x", "c": 1, "d": "Infinity", "e": {"x": 1}, "f": 3,
    }  # fmt: skip
