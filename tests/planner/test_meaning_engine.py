"""Random workflows mean what the docs say: the engine, fused or not, the simulation and a rerun agree with a second reading.

A difference names the workflow's number: `Author(number).write().document()` writes it again.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from headrace.errors import ConflictError, StepError, ValidationError
from headrace.plans import model
from headrace.ports.tool import ToolContext
from headrace.testing import virtual
from headrace.testing.engine import Engine
from headrace.testing.prediction.predict import predict
from headrace.testing.prediction.scenario import Scenario
from headrace.testing.prediction.stubs import tools_here
from headrace.testing.views import Run
from headrace.worker.adapter import OpenObject
from tests.planner.meaning_kit import INPUTS, ROUNDS_MAX, Author, Meant, Scope, WrongError, performed, truth

NUMBERS: Final = range(40)
OVER: Final = frozenset({"succeeded", "failed", "skipped"})
JUDGED, ODD, ENDLESS, OF_ITEMS = "precondition_failed", "odd", "execution_error", "one of its items"
"""Types of errors; the last stands for that of a map, which is one of its items', whichever came first."""
UNTOLD: Final = frozenset({"gate", "branch"})
"""Kinds whose output is a verdict or a choice with its reasons."""


class Given(BaseModel):
    """What the tool is given."""

    value: Any = None
    fail: bool = False


class BrokenError(Exception):
    """A step fails, with an error of this type."""


class StoppedError(Exception):
    """A step failed that does not let the run go on."""


class Parts(dict[str, Any]):
    """Named outputs: what cannot be made of them fails who asks for it."""

    def __getitem__(self, name: str) -> Any:
        """Give one; raises WrongError for one that cannot be made."""
        found = super().__getitem__(name)
        if isinstance(found, WrongError):
            raise found
        return found


class Reading:
    """What becomes of a workflow's steps. `needs` says which steps each waits for."""

    def __init__(self, needs: Mapping[str, tuple[str, ...]]) -> None:
        self._needs = needs
        self._left_out: set[str] = set()
        self.steps: dict[str, dict[str, Any]] = {}

    def run(self, steps: list[Meant]) -> str:
        """Perform everything and give the run's status."""
        self._begin(steps)
        try:
            self._all(steps, {})
        except StoppedError:
            return "failed"
        return "succeeded"

    def _begin(self, steps: list[Meant]) -> None:
        for step in steps:
            self.steps[step.id] = {"status": "pending", "output": None, "error": None, "outputs": None, "failed": []}
            self._begin(step.body)

    def _all(self, steps: list[Meant], here: Mapping[str, Any]) -> None:
        left = list(steps)
        while left:
            ready = [one for one in left if all(self.steps[need]["status"] in OVER for need in self._needs[one.id])]
            for step in ready:
                left.remove(step)
                self._one(step, here)

    def _one(self, step: Meant, here: Mapping[str, Any]) -> None:
        known, needs = self.steps[step.id], self._needs[step.id]
        try:
            if self._skipped(step, needs, here):
                known["status"] = "skipped"
            else:
                known["output"] = self._output(step, here)
                known["status"] = "succeeded"
        except (WrongError, BrokenError) as problem:
            known["status"] = "failed"
            known["error"] = str(problem) if isinstance(problem, BrokenError) else "expression_error"
        if step.part and known["status"] == "succeeded":
            try:
                made: Any = step.part.value(self._scope({**here, "output": known["output"]}))
            except WrongError as problem:
                made = problem
            known["outputs"] = Parts(part=made)
        for inner in step.body:
            if self.steps[inner.id]["status"] == "pending":
                self.steps[inner.id]["status"] = "skipped"
        if known["status"] == "failed" and not step.goes_on:
            raise StoppedError

    def _skipped(self, step: Meant, needs: tuple[str, ...], here: Mapping[str, Any]) -> bool:
        if step.id in self._left_out or (needs and all(self.steps[one]["status"] == "skipped" for one in needs)):
            return True
        return step.guard is not None and not truth(step.guard, self._scope(here))

    def _output(self, step: Meant, here: Mapping[str, Any]) -> Any:
        scope = self._scope(here)
        match step.kind:
            case "tool":
                return self._called(step, scope)
            case "map":
                return self._mapped(step, here)
            case "loop":
                return {"iterations": self._rounds(step, here)}
            case "branch":
                value = _truth(step, scope)
                self._left_out.update(step.sides[not value])
                return value
            case "gate":
                try:
                    passed = _truth(step, scope)
                except WrongError:
                    passed = False
                if not passed:
                    raise BrokenError(JUDGED)
                return passed
            case _:
                return step.value(scope)

    def _called(self, step: Meant, scope: Scope) -> dict[str, Any]:
        value = step.value(scope)
        if step.fails is not None and truth(step.fails, scope):
            raise BrokenError(ODD)
        return performed(value)

    def _mapped(self, step: Meant, here: Mapping[str, Any]) -> list[Any]:
        assert step.items is not None, "a map has items"
        items = step.items(self._scope(here))
        if not isinstance(items, list):
            raise WrongError
        found: list[Any] = []
        wrong: list[str] = []
        for index, item in enumerate(items):
            try:
                found.append(self._called(step, self._scope({**here, "item": item, "index": index})))
            except (WrongError, BrokenError) as problem:
                found.append(None)
                wrong.append(str(problem) or "expression_error")
        if wrong and not step.collects:
            raise BrokenError(OF_ITEMS)
        self.steps[step.id]["failed"] = wrong
        return found

    def _rounds(self, step: Meant, here: Mapping[str, Any]) -> int:
        rounds, before = 0, dict[str, Any]()
        while _truth(step, self._scope({**here, "iteration": rounds})):
            if rounds == ROUNDS_MAX:
                raise BrokenError(ENDLESS)
            rounds += 1
            self._begin(step.body)
            self._all(step.body, {**here, "iteration": rounds, "previous": before})
            before = {one.id: self.steps[one.id] for one in step.body}
        return rounds

    def _scope(self, here: Mapping[str, Any]) -> Scope:
        roots = {"inputs": INPUTS, "steps": self.steps, **here}

        def root(name: str) -> Any:
            if name not in roots:
                raise WrongError
            return roots[name]

        return root


def _truth(step: Meant, scope: Scope) -> bool:
    value = step.value(scope)
    if not isinstance(value, bool):
        raise WrongError
    return value


class Finished(NamedTuple):
    """A workflow that succeeded: what became of its steps, and of the calls of its tool, by their names."""

    number: int
    author: Author
    kinds: Mapping[str, str]
    apart: dict[str, tuple[Any, ...]]
    stubs: dict[str, Any]
    failures: dict[str, str]


class Play:
    """An engine with the tool `look`, which keeps what it was called with and what became of that."""

    def __init__(self) -> None:
        self.stubs: dict[str, Any] = {}
        self.failures: dict[str, str] = {}
        self.tool = _look(self)

    async def run(self, engine: Engine, author: Author, *, fuse: bool) -> tuple[Run, dict[str, tuple[str, ...]]]:
        """Run a workflow to its end, and say what its steps waited for; raises ValidationError for one with a type error."""
        self.stubs, self.failures = {}, {}
        document = author.document(fuse=fuse)
        digest = await engine.plan(document)
        plan = model.parse((await engine.log.get_blobs([digest]))[digest])
        run = await engine.run(document)
        await run.until()
        return run, {step.id: step.needs for step in plan.steps}


def _look(play: Play) -> Any:
    class Look:
        name, version, description, effect, access, pool = "look", "1", "Looks.", "read", "auto", "runner"
        input, output, idempotent = Given, OpenObject, True

        async def perform(self, context: ToolContext, input: Given) -> dict[str, Any]:
            place = context.idempotency_key.partition(":")[2]
            if input.fail:
                play.failures[place] = "odd"
                message = "as asked for"
                raise StepError(message, type="odd")
            play.stubs[place] = performed(input.value)
            return performed(input.value)

    return Look()


def told(run: Run, kinds: Mapping[str, str]) -> dict[str, tuple[Any, ...]]:
    """Give what became of a run's steps."""
    return {
        step.id: (
            step.status,
            None if kinds[step.id] in UNTOLD else step.output,
            error_of(step.error_type, kinds[step.id]),
        )
        for step in run.steps.values()
    }


def error_of(kind: str | None, step: str) -> str | None:
    """Give an error's type."""
    return OF_ITEMS if kind is not None and step == "map" else kind


async def _play(numbers: range, finished: list[Finished]) -> list[str]:
    """Run workflows in an engine, and say what differs; `finished` are those that succeeded, for who predicts them."""
    play = Play()
    different: list[str] = []
    async with Engine(tools=[play.tool]) as engine:
        for number in numbers:
            author = Author(number).write()
            kinds = {one.id: one.kind for step in author.steps for one in (step, *step.body)}
            try:
                run, needs = await play.run(engine, author, fuse=False)
            except ValidationError:
                continue  # the types of what was drawn do not fit
            apart = told(run, kinds)
            reading = Reading(needs)
            if reading.run(author.steps) != run.status:
                different.append(f"{number}: read as ending otherwise than {run!r}")
            if run.status != "succeeded":
                continue
            meant = {
                id: (
                    known["status"],
                    None if kinds[id] in UNTOLD else known["output"],
                    error_of(known["error"], kinds[id]),
                )
                for id, known in reading.steps.items()
            }
            different += _differences(number, "as it is read", meant, apart)
            finished.append(Finished(number, author, kinds, apart, play.stubs, play.failures))
            again = await _again(engine, run, author)
            different += [] if again is None else _differences(number, "in a rerun", apart, told(again, kinds))
            together = told((await play.run(engine, author, fuse=True))[0], kinds)
            different += _differences(number, "when fused", apart, together)
    return different


async def _again(engine: Engine, run: Run, author: Author) -> Run | None:
    try:
        return await (await engine.rerun(run, author.steps[len(author.steps) // 2].id)).until()
    except ConflictError:
        return None  # what it needs failed, or was left out


def _predicted(one: Finished) -> list[str]:
    tool = _look(Play())
    found = predict(
        json.dumps(one.author.document()),
        Scenario(stubs=one.stubs, failures=one.failures),
        {**tools_here(), "look": tool},
    )
    cut = {
        id for id, kind in one.kinds.items() if kind == "map" and one.apart[id][0] == "failed"
    }  # where chance decides
    calls, called = (
        {place for place in places if place.partition("[")[0] not in cut}
        for places in ((each.step for each in found.effects), one.stubs.keys() | one.failures.keys())
    )
    different = [] if calls == called else [f"{one.number}: it is predicted that {calls} are called, not {called}"]
    predicted = {
        step.step: (
            step.status,
            None if one.kinds[step.step] in UNTOLD else step.output,
            step.error and step.error["type"],
        )
        for step in found.steps
    }
    maps = {id for id, kind in one.kinds.items() if kind == "map"}  # a prediction tells their items
    there = {id: each for id, each in one.apart.items() if id not in maps}
    return different + _differences(
        one.number, "as predicted", {id: predicted[id] for id in predicted.keys() - maps}, there
    )


def _differences(number: int, how: str, one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [
        f"{number}: {id} {how}: {one.get(id)} is not {other.get(id)}"
        for id in sorted({*one, *other})
        if one.get(id) != other.get(id)
    ]


def test_random_workflows_mean_the_same_to_the_engine_the_simulation_a_rerun_and_the_docs() -> None:
    finished: list[Finished] = []
    assert virtual.run(_play(NUMBERS, finished)) == []
    assert [said for one in finished for said in _predicted(one)] == []
    assert len(finished) > len(NUMBERS) // 4
