"""Digests of canonical forms: the short way to one gives what the long way does."""

import json

import pytest

from headrace import codec, ids
from headrace.errors import ValidationError

SAMPLES: tuple[object, ...] = (
    {"n": 1},
    {"b": [1, {"z": None, "a": True}], "a": "text, with: {signs}"},
    {"é": 1, "z": 2, "\U0001f600": 3, "\uffff": 4},
    ["a\tb", 'a"b', "a\\b", "\x7f", "\u2028", "</script>"],
    [0.0, -0.0, 1.5, 1e21, 1e-7, 10.0],
    [10**15 - 1, 10**15, 2**53 - 1, -(2**53 - 1)],
    {},
    [],
    "",
    None,
)


@pytest.mark.parametrize("value", SAMPLES, ids=repr)
def test_the_digest_of_a_text_is_that_of_the_canonical_form_of_what_it_says(value: object) -> None:
    wanted = codec.digest(value)
    assert codec.digest_of(codec.dumps(value)) == wanted
    assert codec.digest_of(codec.raw(value)) == wanted
    assert codec.digest_of(json.dumps(value, indent=1).encode()) == wanted
    assert codec.digest_of(codec.dumps(value), value) == wanted


def test_members_are_sorted_and_the_last_of_the_same_name_stands() -> None:
    assert codec.digest_of(b'{"b":1,"a":2,"b":3}') == codec.digest({"a": 2, "b": 3})


@pytest.mark.parametrize("text", [b"1e999999", b"9007199254740993", b"[-9007199254740993]", b"{", b"01"])
def test_what_has_no_canonical_form_has_no_digest(text: bytes) -> None:
    with pytest.raises(ValidationError):
        codec.digest_of(text)


@pytest.mark.parametrize("number", [0, 1, 2**128 - 1, 0x0123456789ABCDEF0123456789ABCDEF])
def test_ids_are_read_as_they_are_written(number: int) -> None:
    assert ids.number(ids.text("run", number)) == number


@pytest.mark.parametrize(
    "suffix",
    [
        "0" * 25 + "u",
        "0" * 25 + "A",
        "0" * 24 + "_0",
        "8" + "0" * 25,
        "+" + "0" * 25,
        "0" * 25 + "\u0660",
        "0" * 27,
        "",
    ],
)
def test_what_is_no_id_is_refused(suffix: str) -> None:
    with pytest.raises(ValidationError):
        ids.number(f"run_{suffix}")
