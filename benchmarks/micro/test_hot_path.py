"""The parts of a step's way through an owner, one by one: figures to compare with others of the same hour and machine.

Times hold for one chain of ten no-op steps, as in W1a. `make bench-micro` prints them, and counts that are steadier.
"""

from typing import Any

import msgspec

from benchmarks.micro.conftest import Measure
from benchmarks.stand import chain
from benchmarks.tools import plus_one
from headrace import codec, ids
from headrace.decider import Context
from headrace.events.base import Actor
from headrace.events.runs import StepSucceeded
from headrace.log.chain import GENESIS, link
from headrace.log.port import Batch, NewEvent
from headrace.log.wire import append_arguments
from headrace.messages import Advance, CreateRun, ReportAttempt
from headrace.plans import model
from headrace.specs.documents import Document, from_value
from headrace.worker.manifests import manifest_of
from headrace_planner.compile.compiler import compile as compiled
from headrace_planner.runs.room import RunRoom
from headrace_planner.runs.state import Run

NOW = 1_800_000_000_000
ROUNDS = 2_000
EVENTS = 100
RUN = ids.make(ids.RUN, NOW, b"microbench")
DOCUMENT = from_value(chain(10, fuse=False))
META = b'{"actor":{"id":"wrk_1","name":"wrk_1"},"cause":"report"}'
TOOLS = {"plus_one": manifest_of(plus_one)}


def _plan(document: Document) -> model.Plan:
    made = compiled(document, TOOLS, {})
    assert isinstance(made, model.Plan), made
    return made


BODY = model.canonical(_plan(DOCUMENT))
DIGEST = codec.sha256(BODY)
CONTEXT = Context(now=NOW, stream_id=RUN, workspace="default", actor=Actor(id="a", name="ann", roles=("admin",)))


class Bodies:
    """A library of one plan."""

    def body(self, digest: str) -> bytes:
        """Give it."""
        assert digest == DIGEST
        return BODY


ROOM = RunRoom(Bodies())


def _fold(run: Run, events: Any) -> None:
    for event in events:
        ROOM.evolve(run, event, NOW)


def _begun() -> tuple[Run, ReportAttempt]:
    """Give a run whose first step is under way, and the result of that."""
    run = ROOM.initial(RUN, "default")
    _fold(run, ROOM.decide(run, CreateRun(plan_digest=DIGEST, inputs=codec.raw({"n": 1})), CONTEXT))
    while events := ROOM.decide(run, Advance(), CONTEXT):
        _fold(run, events)
    (effect,) = ROOM.receipts(run, Advance(), CONTEXT)
    order = effect.order  # type: ignore[union-attr]  # the one effect is an order
    output = codec.raw({"n": 2})
    report = ReportAttempt(
        run_id=RUN,
        step=order.step,
        attempt=1,
        attempt_id=order.attempt_id,
        status="succeeded",
        worker="wrk_1",
        output=output,
        started_at=NOW,
        finished_at=NOW,
    )
    return run, report


def over() -> tuple[Run, tuple[StepSucceeded, ...]]:
    """Give the run, and the event of its first step's end, which it has not met yet."""
    run, report = _begun()
    events = ROOM.decide(run, report, CONTEXT)
    assert isinstance(events, tuple)
    return run, events


def _events() -> list[NewEvent]:
    _, (event,) = over()
    data = codec.encode(event)
    return [NewEvent(RUN, version, "step.succeeded", 1, "default", NOW, data, META) for version in range(1, EVENTS + 1)]


def test_decide_a_result(measure: Measure) -> None:
    run, report = _begun()
    assert len(measure(ROOM.decide, run, report, CONTEXT)) == 1


def test_evolve_a_result(measure: Measure) -> None:
    def setup() -> tuple[Any, Any]:
        run, (event,) = over()
        return (run, event, NOW), {}

    run = measure.pedantic(ROOM.evolve, setup=setup, rounds=ROUNDS)
    assert run.data.steps_done == 1


def test_advance_and_order_the_next_step(measure: Measure) -> None:
    def setup() -> tuple[Any, Any]:
        run, events = over()
        _fold(run, events)
        return (run,), {}

    def go_on(run: Run) -> Any:
        ROOM.decide(run, Advance(), CONTEXT)
        return ROOM.receipts(run, Advance(), CONTEXT)

    assert len(measure.pedantic(go_on, setup=setup, rounds=ROUNDS)) == 1


def test_rows_of_a_result(measure: Measure) -> None:
    run, events = over()
    _fold(run, events)
    assert len(list(measure(ROOM.rows, run, events))) == 3


def test_serialise_an_event(measure: Measure) -> None:
    _, (event,) = over()
    assert msgspec.json.decode(measure(codec.encode, event))["step"] == "s0"


def test_hash_100_events(measure: Measure) -> None:
    assert measure(link, GENESIS, 0, _events()).last == EVENTS


def test_lay_out_an_append_of_100_events(measure: Measure) -> None:
    run, events = over()
    _fold(run, events)
    batch = Batch(
        log="runs",
        partition=ids.partition_of(RUN),
        epoch=1,
        expected_position=0,
        events=_events(),
        rows=list(ROOM.rows(run, events)),
    )
    assert measure(append_arguments, "incarnation", [batch])


def test_compile_a_document(measure: Measure) -> None:
    assert len(measure(_plan, DOCUMENT).steps) == 10
