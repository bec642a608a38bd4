"""Every event has one name, one line that says when it is written, a rule that remembers it, a golden sample, a row."""

import ast
import importlib.util
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from headrace import codec
from headrace.events import registry
from headrace.events.base import Event
from tests.architecture import golden

ROOT = Path(__file__).parents[2]
EVERY = [kind for kinds in registry.EVENTS.values() for kind in kinds]
each_event = pytest.mark.parametrize("kind", EVERY, ids=[kind.type_name() for kind in EVERY])


def make_events() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_events", ROOT / "docs/make_events.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def remembered() -> set[str]:
    """Give the event classes that have a case in an evolve, or stand in a `CHANGES_NOTHING`."""
    found: set[str] = set()
    for path in (ROOT / "services").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and "evolve" in f"{path.stem} {node.name}":
                found |= {ast.unparse(case.cls) for case in ast.walk(node) if isinstance(case, ast.MatchClass)}
            if isinstance(node, ast.Assign | ast.AnnAssign) and "CHANGES_NOTHING" in ast.unparse(node):
                found |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
    return {name.rpartition(".")[2] for name in found}


def test_names_are_unique() -> None:
    assert [name for name, count in Counter(kind.type_name() for kind in EVERY).items() if count > 1] == []
    assert [name for name, count in Counter(kind.__name__ for kind in EVERY).items() if count > 1] == []


def test_every_event_class_is_in_a_union() -> None:
    ours = {kind for kind in Event.__subclasses__() if kind.__module__.startswith("headrace.")}
    assert ours == set(EVERY)


@each_event
def test_an_event_says_in_one_line_when_it_is_written(kind: type[Event]) -> None:
    said = kind.__doc__ or ""
    assert said.startswith(("Written when ", "Written before ")), f"{kind.__name__}: {said!r}"
    assert "\n" not in said


@each_event
def test_an_event_is_remembered_by_an_evolve(kind: type[Event]) -> None:
    assert kind.__name__ in remembered(), (
        f"give {kind.__name__} a case in its room's evolve, or add it to CHANGES_NOTHING"
    )


@each_event
def test_an_event_has_a_golden_sample_that_still_reads_to_the_same_bytes(kind: type[Event]) -> None:
    file = golden.file_of(kind.type_name())
    assert file.is_file(), "run `python -m tests.architecture.golden`"
    frozen = file.read_bytes().removesuffix(b"\n")
    event = registry.decode(kind.type_name(), frozen)
    assert type(event) is kind
    assert codec.encode(event) == frozen


@each_event
def test_an_event_read_again_is_the_event(kind: type[Event]) -> None:
    event = golden.sample(kind)
    assert codec.encode(registry.decode(kind.type_name(), codec.encode(event))) == codec.encode(event)


def test_no_golden_sample_is_left_without_its_event() -> None:
    assert {golden.read_name(file)[0] for file in golden.EVENTS.glob("*.json")} == set(registry.BY_NAME)


def test_samples_of_every_schema_there_ever_was_are_read_as_the_newest_class() -> None:
    samples = {golden.read_name(file): file.read_bytes() for file in golden.EVENTS.glob("*.json")}
    assert set(samples) == {(kind.type_name(), schema) for kind in EVERY for schema in range(1, kind.SCHEMA + 1)}
    for (name, schema), frozen in samples.items():
        assert type(registry.decode(name, frozen, schema)) is registry.BY_NAME[name]


@each_event
def test_an_event_has_a_row_in_the_docs(kind: type[Event]) -> None:
    assert f"| `{kind.type_name()}` | {kind.__name__} |" in (ROOT / "docs/events.md").read_text()


def test_the_page_of_events_is_what_the_code_says() -> None:
    assert make_events().page() == (ROOT / "docs/events.md").read_text(), "run `python docs/make_events.py`"
