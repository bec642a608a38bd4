"""Artifacts of many items leave the state as pieces, and read as if they were there."""

import pytest

from headrace import codec
from headrace.decider import MissingError
from headrace.events.base import BlobRef
from headrace.events.steering import ArtifactsKept
from headrace.plans.model import LoopStep, TransformStep
from headrace_planner.runs import artifacts
from headrace_planner.runs.bounds import USUAL
from headrace_planner.runs.pieces import PIECE_BYTES_MAX
from tests.planner.leavings_kit import FEW, GATE, MANY, left_by, mapped, perform, shuffled, sim_of
from tests.planner.runs_kit import step


def test_artifacts_leave_the_state_as_pieces_and_rows_and_expressions_read_them() -> None:
    """Each command is checked: rows as events come are those of a rebuild, and those of the fold from zero."""
    views = {
        "count": "{{ size(steps.m.artifacts) }}",
        "one": "{{ steps.m.artifacts[17].value }}",
        "some": "{{ steps.m.artifacts.filter(a, a.value > 26).map(a, a.label) }}",
        "all": "{{ steps.m.artifacts }}",
    }
    sim = sim_of(mapped(), *(step(name, TransformStep(value=value), "m") for name, value in views.items()))
    perform(sim, order=shuffled())
    assert sim.status == "succeeded"
    known = sim.run.peek("m")
    assert (len(known.artifacts) < 4, artifacts.count(known)) == (True, MANY)
    assert len(known.artifact_pieces) >= MANY // 8
    rows = [row.columns for row in sim.room.rows(sim.run, None) if row.table == "artifacts"]
    assert [row["item"] for row in rows] == shuffled()
    assert [row["attempt_id"] for row in rows] == [sim.run.attempt_id(("m", index), 1) for index in shuffled()]
    assert (sim.output("count"), sim.output("one")) == (MANY, shuffled()[17])
    assert sim.output("some") == [f"f{index}" for index in shuffled() if index > 26]
    assert [each["value"] for each in sim.output("all")] == shuffled()


def test_without_pieces_the_same_rows_are_kept() -> None:
    few, usual = (perform(sim_of(mapped(), bounds=bounds), order=shuffled()) for bounds in (FEW, USUAL))
    assert "artifacts.kept" not in usual.names
    mine, theirs = ([row for row in sim.kept.values() if row.table == "artifacts"] for sim in (few, usual))
    assert [row.columns for row in mine] == [row.columns for row in theirs]


def test_a_gate_is_shown_every_artifact_in_its_order() -> None:
    evidence = []
    for bounds in (FEW, USUAL):
        sim = perform(sim_of(mapped(), step("g", GATE, "m", kind="gate"), bounds=bounds), order=shuffled())
        evidence.append(codec.loads(sim.orders["g"].evidence))
    assert [each["value"] for each in evidence[0]["artifacts"]] == shuffled()
    assert evidence[0] == evidence[1]


def test_bodies_that_must_be_fetched_are_asked_for_together_for_all_rows_and_alone_for_one() -> None:
    sim = perform(sim_of(mapped()))
    known = sim.run.peek("m")
    digests = [piece.digest for piece in known.artifact_pieces]
    sim.shelf.missing |= set(digests)
    with pytest.raises(MissingError) as missing:
        sim.room.rows(sim.run, None)
    assert sorted(missing.value.digests) == sorted(digests)
    sim.shelf.missing -= {digests[1]}
    series = artifacts.shown(known, sim.shelf)
    first = known.artifact_pieces[0].count
    assert [series[place]["value"] for place in (first, first + 1, MANY - 1)] == [first, first + 1, MANY - 1]


def test_large_artifacts_make_a_piece_early_and_small_ones_of_few_none() -> None:
    sim = sim_of(mapped(), count=12, bounds=USUAL)
    for index in range(12):
        sim.report(f"m[{index}]", index, artifacts=left_by(index, body=codec.raw("x" * (PIECE_BYTES_MAX // 5))))
    assert sim.names.count("artifacts.kept") == 2
    assert "artifacts.kept" not in perform(sim_of(mapped(), count=MANY, bounds=USUAL)).names


def test_artifacts_of_a_loops_rounds_are_all_kept() -> None:
    loop = step("l", LoopStep(condition="iteration < 3", body=("m",)))
    sim = sim_of(loop, mapped(parent="l"), step("n", TransformStep(value="{{ size(steps.m.artifacts) }}"), "l"))
    for _ in range(3):
        perform(sim)
    assert sim.output("n") == 3 * MANY
    rows = [row.columns["item"] for row in sim.room.rows(sim.run, None) if row.table == "artifacts"]
    assert rows == [*range(MANY)] * 3


def test_a_pieces_event_names_its_body_by_digest_and_says_whether_more_bodies_are_behind_it() -> None:
    sim = sim_of(mapped(), count=8)
    blob = BlobRef(digest=codec.sha256(b"long"), size_bytes=4)
    for index in range(8):
        sim.report(f"m[{index}]", index, artifacts=left_by(index, blob=blob if index == 6 else None))
    kept = [event for event, _ in sim.history if isinstance(event, ArtifactsKept)]
    for event in kept:
        body = sim.shelf.bodies[event.piece.digest]
        assert (codec.sha256(body), len(body)) == (event.piece.digest, event.piece.size_bytes)
    assert [event.piece.large for event in kept] == [False, True]
    assert artifacts.blobs_in(sim.shelf.bodies[kept[1].piece.digest]) == (blob.digest,)
