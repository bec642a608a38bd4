"""Events of older schemas are read as the newest class; what only newer code knows is refused by name."""

import ast
import importlib
import linecache
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from headrace import codec
from headrace.codec import NULL, Raw
from headrace.errors import DatabaseVersionError
from headrace.events import registry, upcasting
from headrace.events.base import Event
from headrace.events.upcasting import Fields, Reader, fingerprint
from headrace.log.port import Recorded


class ParcelSent(Event, frozen=True, kw_only=True, tag="parcel.sent"):
    """Written when a parcel was sent; first it had a `weight` in kilograms, then in `grams`, and now a list of sizes."""

    SCHEMA = 3
    grams: int
    to: tuple[str, ...] = ()
    body: Raw = NULL


class LetterSent(Event, frozen=True, kw_only=True, tag="letter.sent"):
    """Written when a letter was sent."""

    to: str


def in_grams(fields: Fields) -> Fields:
    """1 to 2: kilograms become grams."""
    kilograms = codec.loads(fields["weight"])
    return {name: value for name, value in fields.items() if name != "weight"} | {"grams": codec.raw(kilograms * 1000)}


def to_several(fields: Fields) -> Fields:
    """2 to 3: one recipient becomes a list of them."""
    return {**fields, "to": codec.raw([codec.loads(fields["to"])])}


STEPS = {("parcel.sent", 1): in_grams, ("parcel.sent", 2): to_several}


@pytest.fixture
def reader() -> Reader:
    return Reader([ParcelSent, LetterSent], STEPS)


def test_steps_chain_from_every_schema_to_the_newest(reader: Reader) -> None:
    wanted = ParcelSent(grams=2000, to=("ann",))
    written = {
        1: b'{"type":"parcel.sent","weight":2,"to":"ann"}',
        2: b'{"type":"parcel.sent","grams":2000,"to":"ann"}',
        3: b'{"type":"parcel.sent","grams":2000,"to":["ann"]}',
    }
    for schema, data in written.items():
        assert reader.decode("parcel.sent", data, schema) == wanted
        stored = Recorded("runs", 0, 1, "run_x", 1, "parcel.sent", schema, "default", 0, data, b"{}")
        assert reader.read(stored) == wanted
    assert reader.decode("parcel.sent", written[3]) == wanted


def test_what_a_step_does_not_touch_stays_byte_for_byte(reader: Reader) -> None:
    odd = b'{"b" : 1e999999, "a": "\\u0000",   "n": 123456789012345678901234567890}'
    event = reader.decode("parcel.sent", b'{"type":"parcel.sent","weight":1,"to":"ann","body":' + odd + b"}", 1)
    assert isinstance(event, ParcelSent)
    assert bytes(event.body) == odd


@pytest.mark.parametrize("schema", [4, 99, 0, -1])
def test_an_unknown_schema_is_refused_by_name(reader: Reader, schema: int) -> None:
    with pytest.raises(DatabaseVersionError, match=rf"'parcel\.sent' of schema {schema}.*up to 3.*newer headrace"):
        reader.decode("parcel.sent", b'{"type":"parcel.sent","grams":1}', schema)


def test_an_unknown_event_is_refused_by_name(reader: Reader) -> None:
    with pytest.raises(DatabaseVersionError, match=r"'parcel\.lost'.*newer headrace"):
        reader.decode("parcel.lost", b"{}", 1)
    with pytest.raises(DatabaseVersionError, match=r"run\.invented"):
        registry.decode("run.invented", b"{}", 1)
    with pytest.raises(DatabaseVersionError, match=r"run\.started.*schema 7"):
        registry.decode("run.started", b'{"type":"run.started"}', 7)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({("parcel.sent", 1): in_grams}, r"missing \[\('parcel.sent', 2\)\]"),
        ({("parcel.sent", 2): to_several}, r"missing \[\('parcel.sent', 1\)\]"),
        ({**STEPS, ("parcel.sent", 3): to_several}, r"nowhere \[\('parcel.sent', 3\)\]"),
        ({**STEPS, ("letter.sent", 1): in_grams}, r"nowhere \[\('letter.sent', 1\)\]"),
        ({**STEPS, ("parcel.lost", 1): in_grams}, r"nowhere \[\('parcel.lost', 1\)\]"),
    ],
)
def test_a_chain_with_a_hole_or_a_step_to_nowhere_is_a_mistake_at_once(steps: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Reader([ParcelSent, LetterSent], steps)  # type: ignore[arg-type]  # mappings of steps, as pytest gives them


def test_a_step_gets_its_own_and_changes_nothing_it_is_given() -> None:
    given = {"type": Raw(b'"parcel.sent"'), "weight": Raw(b"2"), "to": Raw(b'"ann"')}
    before = dict(given)
    to_several(in_grams(given))
    assert given == before


# --- fingerprints ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folding(tmp_path: Path) -> Iterator[Path]:
    """Give a folder with a package of ours in which evolve needs another module."""
    (tmp_path / "headrace_toy").mkdir()
    (tmp_path / "headrace_toy/__init__.py").write_text('"""A toy."""\n')  # before 3.13, empty files have no source
    (tmp_path / "headrace_toy/words.py").write_text("WORDS = {'one': 1}\n")
    (tmp_path / "headrace_toy/evolve.py").write_text(
        "from headrace_toy import (\n    words,\n)\n\n\ndef evolve(state, event):\n    return state + words.WORDS[event]\n"
    )
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))


def loaded() -> ModuleType:
    for name in [name for name in sys.modules if name.startswith("headrace_toy")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    linecache.clearcache()
    return importlib.import_module("headrace_toy.evolve")


def test_a_fingerprint_follows_the_source_and_what_it_imports(folding: Path) -> None:
    first = fingerprint(loaded())
    assert fingerprint(loaded()) == first
    (folding / "headrace_toy/words.py").write_text("WORDS = {'one': 2}\n")
    second = fingerprint(loaded())
    assert second != first, "a constant of another module changed what is folded"
    evolve = folding / "headrace_toy/evolve.py"
    evolve.write_text(evolve.read_text().replace("state +", "state -"))
    assert fingerprint(loaded()) not in {first, second}


def test_the_fingerprints_of_rooms_cover_their_folding_events_and_upcasters() -> None:
    from headrace_planner.runs import evolve, state

    names = {module.__name__ for module in upcasting._closure((evolve, state, upcasting))}
    needed = {"headrace.events.runs", "headrace.events.base", "headrace.events.upcasting", "headrace.vocabulary"}
    assert needed | {"headrace_planner.runs.state", "headrace_planner.runs.graph"} <= names
    assert not [name for name in names if name.startswith(("headrace.log", "headrace.bus", "headrace.host"))]
    for name in sorted(names):
        source = Path(str(sys.modules[name].__file__)).read_text()
        imported = {
            node.module
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("headrace")
        }
        assert {each for each in imported if each in sys.modules} - names <= {"headrace.worker.decorator"}, name
