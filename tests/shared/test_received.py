"""JSON from outside says each thing once, and no number that JSON does not know."""

import pytest

from headrace import received
from headrace.errors import ValidationError


@pytest.mark.parametrize("text", ['{"a":1,"b":[{"a":2},{"a":3}],"c":1e999}', "[1.5,null,true]", '"NaN"', "0"])
def test_json_is_read_as_it_is(text: str) -> None:
    whole = {'{"a":1,"b":[{"a":2},{"a":3}],"c":1e999}': {"a": 1, "b": [{"a": 2}, {"a": 3}], "c": float("inf")}}
    expected = whole.get(text, {"[1.5,null,true]": [1.5, None, True], '"NaN"': "NaN", "0": 0}.get(text))
    assert received.loads(text) == expected
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32-le"):
        assert received.loads(text.encode(encoding)) == expected


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('{"a":1,"a":1}', ["a"]),
        ('{"a":1,"\\u0061":2}', ["a"]),
        ('{"a":{"b":[0,{"c":1,"d":{},"c":2}]}}', ["a.b.1.c"]),
        ('{"a":NaN,"b":[Infinity,{"c":-Infinity}]}', ["a", "b.0", "b.1.c"]),
        ('{"a":NaN,"a":1,"a":2}', ["a", "a"]),
        ("NaN", [""]),
    ],
)
def test_what_is_said_twice_or_is_no_number_is_named(text: str, fields: list[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        received.loads(text)
    problems = refused.value.details["problems"]
    assert [one["field"] for one in problems] == fields
    assert all(one["message"] in refused.value.message for one in problems)


def test_however_much_is_wrong_what_is_told_is_bounded() -> None:
    names = ",".join(f'"{"x" * 200}{n}":1,"{"x" * 200}{n}":1,"n{n}":NaN' for n in range(100))
    with pytest.raises(ValidationError) as refused:
        received.loads("{" + names + "}")
    problems = refused.value.details["problems"]
    assert len(problems) == received.PROBLEMS_MAX
    assert all(len(one["field"]) <= received.NAME_CHARS_MAX for one in problems)


@pytest.mark.parametrize("text", ["", "{", "nan", '{"a":1}}', b"\xff", '{"a":1,"a":NaN', "[" * 100_000])
def test_what_is_no_json_is_no_json(text: str | bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        received.loads(text)
