"""Made-up values: allowed by their schema as another implementation reads it, and the same for the same text."""

import re
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from headrace.errors import ValidationError
from headrace.specs.patterns import matching
from headrace.specs.samples import sample
from tests.planner.catalogue_fixture import catalogue


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{2,9}$")]
    at: datetime
    kind: Literal["leaf"] = "leaf"


class Tree(BaseModel):
    kind: Literal["tree"] = "tree"
    children: list["Tree | Leaf"] = []
    parent: "Tree | None" = None


class Everything(BaseModel):
    text: str
    short: Annotated[str, Field(min_length=3, max_length=4)]
    whole: Annotated[int, Field(ge=7, lt=9)]
    even: Annotated[int, Field(multiple_of=2, gt=10)]
    share: Annotated[float, Field(gt=0, lt=1)]
    flag: bool
    nothing: None
    anything: Any
    colour: Colour
    maybe: int | None = None
    either: int | str
    day: date
    hour: time
    span: timedelta
    id: UUID
    names: Annotated[list[str], Field(min_length=3, max_length=3)]
    pair: tuple[int, str]
    once: set[Literal["a", "b"]]
    counts: dict[str, int]
    labels: dict[str, str] = {}
    tree: Tree
    union: Annotated[Tree | Leaf, Field(discriminator="kind")]


def valid(value: Any, schema: Any) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(value)


@pytest.mark.parametrize("seed", ["", "a", "run_1/step", "ä\ud800"])
@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_a_model_of_every_kind_has_a_value_that_it_takes(seed: str, mode: Any) -> None:
    schema = Everything.model_json_schema(mode=mode)
    value = sample(schema, seed)
    valid(value, schema)
    Everything.model_validate(value)
    assert sample(schema, seed) == value


def test_another_seed_gives_another_value() -> None:
    schema = Everything.model_json_schema()
    assert len({repr(sample(schema, str(seed))) for seed in range(10)}) == 10


def test_every_tool_has_arguments_that_its_schema_allows() -> None:
    for manifest in catalogue().values():
        valid(sample(manifest.input_schema, manifest.name), manifest.input_schema)


SCHEMAS: Final[list[Any]] = [
    {},
    True,
    {"type": "null"},
    {"const": {"a": [1]}},
    {"enum": [3, None]},
    {"type": ["null", "string"]},
    {"type": "integer", "minimum": -7, "maximum": -7},
    {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    {"type": "integer", "maximum": -1000},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 0.001},
    {"type": "number", "multipleOf": 0.5, "minimum": 1.1},
    {"type": "string", "minLength": 200},
    {"type": "string", "maxLength": 0},
    {"type": "string", "format": "email"},
    {"type": "array", "minItems": 5},
    {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 3},
    {"type": "array", "prefixItems": [{"type": "integer"}], "items": False},
    {"type": "array", "items": False},
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 3},
    {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["b"], "maxProperties": 1},
    {"type": "object", "required": ["a"]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"minimum": 5, "maximum": 5}]},
    {"allOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {"type": "null"}}, "required": ["b"]}]},
    {"anyOf": [False, {"type": "integer"}]},
    {"oneOf": [{"type": "object", "required": ["a"], "properties": {"a": {"const": 1}}}, {"type": "string"}]},
    {"type": "object", "properties": {"self": {"$ref": "#"}}},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"type": "integer"}}},
    {"type": "object", "propertyNames": {"pattern": "^[a-z]{4}$"}, "additionalProperties": {"type": "null"}},
    {"properties": {"a": {"type": "integer"}}},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_the_value_of_a_schema_is_allowed_by_it(schema: Any) -> None:
    for seed in ("", "b", "c"):
        valid(sample(schema, seed), schema)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (False, "nothing is allowed there"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "no value can be made up for a: nothing"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "no number is allowed"),
        ({"not": {"type": "string"}}, "'not' is not read"),
        ({"type": "string", "pattern": "^(?=a)b$"}, "no text comes to mind for the pattern '^(?=a)b$'"),
        ({"$ref": "https://example.com/x"}, "leads out of the schema"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "references have no end"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "the schema has no end"),
        ({"type": "array", "items": {"const": 1}, "uniqueItems": True, "minItems": 2}, "different from the ones"),
    ],
)
def test_where_no_value_can_be_made_up_the_place_is_named(schema: Any, why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        sample(schema, "a")
    assert why in caught.value.message


LEAVES = st.one_of(
    st.just({}),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-50, 50),
        st.integers(0, 9),
    ),
    st.builds(
        lambda low, more: {"type": "number", "exclusiveMinimum": low, "maximum": low + more},
        st.integers(-50, 50),
        st.integers(1, 9),
    ),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 30),
        st.integers(0, 9),
    ),
    st.sampled_from(["boolean", "null", "string", "integer", "number"]).map(lambda kind: {"type": kind}),
    st.sampled_from(["date-time", "date", "uuid", "ipv4"]).map(lambda name: {"type": "string", "format": name}),
    st.lists(st.integers() | st.text() | st.none(), min_size=1, max_size=3).map(lambda values: {"enum": values}),
)


def composed(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["a", "b", "c"])
    return st.one_of(
        st.builds(
            lambda items, least, more: {"type": "array", "items": items, "minItems": least, "maxItems": least + more},
            inner,
            st.integers(0, 3),
            st.integers(0, 2),
        ),
        st.builds(
            lambda properties, required, rest: {
                "type": "object",
                "properties": properties,
                "required": sorted(required & set(properties)),
                "additionalProperties": rest,
            },
            st.dictionaries(names, inner, max_size=3),
            st.sets(names),
            st.booleans() | inner,
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda choices: {"anyOf": choices}),
    )


@given(st.recursive(LEAVES, composed, max_leaves=8), st.text(max_size=5))
@settings(max_examples=500, deadline=None)
def test_the_value_of_any_schema_is_allowed_by_it(schema: Any, seed: str) -> None:
    value = sample(schema, seed)
    valid(value, schema)
    assert sample(schema, seed) == value


@pytest.mark.parametrize(
    ("pattern", "least", "most"),
    [
        (r"^[a-z0-9][a-z0-9-]*$", 0, None),
        (r"^[a-z0-9][a-z0-9-]*$", 30, 30),
        (r"^\d{4}-\d{2}-\d{2}$", 0, None),
        (r"^(?:file|https?)://\S+$", 0, None),
        (r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$", 0, None),
        (r"^sha256:[0-9a-f]{64}$", 0, None),
        (r"^run_[0-9a-hjkmnp-tv-z]{26}$", 30, 30),
        (r"^(?P<major>\d+)\.(\d+)$", 0, None),
        (r"[A-Z]", 5, 9),
        (r"^a|b$", 0, 1),
        (r"^[\w.\-]+$", 3, 3),
        (r"^$", 0, None),
        (r"^\+?[0-9 ]{6,12}$", 0, 8),
    ],
)
def test_a_text_is_made_for_a_common_pattern(pattern: str, least: int, most: int | None) -> None:

    text = matching(pattern, least, most)
    assert text is not None
    assert re.search(pattern, text)
    assert least <= len(text) <= (len(text) if most is None else most)


@pytest.mark.parametrize("pattern", [r"(?=a)b", r"(a)\1", "[", r"\p{L}", "^a{3}$x"])
def test_for_a_pattern_that_is_not_read_there_is_no_text(pattern: str) -> None:
    assert matching(pattern, 0, None) is None
