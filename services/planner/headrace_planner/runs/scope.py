"""What expressions of a run may see: inputs, trigger, variables, run, steps, and an item's own (pure).

Outputs are decoded when an expression asks for them, once; a body that is kept as a blob comes from the library, which
raises MissingError until the host has fetched it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from headrace import codec
from headrace.codec import NULL
from headrace.decider import Library
from headrace.errors import HeadraceError, StepError
from headrace.events.base import ErrorInfo
from headrace.expressions.expression import parse
from headrace.expressions.series import Series
from headrace.vocabulary import MAP_ITEMS_MAX, StepStatus
from headrace_planner.runs import artifacts, work
from headrace_planner.runs.items import listed, long_list
from headrace_planner.runs.pieces import Results
from headrace_planner.runs.state import Run, StepState

MISSING_KEY: Final = ("unknown key", "there is no")
"""How an expression's reason begins that asks an event for what it does not have: such an event is not meant."""


PREVIOUS: Final = "previous"
OUTPUTS: Final = "outputs"


class RunScope:
    """The scope of a run's expressions; `extra` adds `item` and `index` in a map, `output` for artifacts."""

    __slots__ = ("_extra", "_library", "_loop", "_run")

    def __init__(self, run: Run, library: Library, extra: Mapping[str, Any] | None = None, loop: str = "") -> None:
        self._run = run
        self._library = library
        self._extra = extra or {}
        self._loop = loop

    def root(self, name: str) -> Any:
        """Give a root other than `steps`; raises KeyError when there is none of that name here."""
        if name in self._extra:
            return self._extra[name]
        place = (PREVIOUS, self._loop) if name == PREVIOUS else name
        known = self._run.decoded.get(place)
        if known is None:
            known = self._run.decoded[place] = self._previous() if name == PREVIOUS else self._make(name)
        return known

    def step(self, step_id: str) -> Mapping[str, Any]:
        """Give what expressions may read of a step; raises KeyError for one that the plan does not have."""
        if step_id not in self._run.graph.index:
            raise KeyError(step_id)
        known = self._run.decoded.get(("step", step_id))
        if known is None:
            known = self._view(step_id)
            if self._run.over(step_id):
                self._run.decoded["step", step_id] = known
        return known

    def _make(self, name: str) -> Any:
        queued = self._run.queued
        match name:
            case "inputs":
                return codec.loads(queued.inputs)
            case "trigger":
                return codec.loads(queued.trigger) or {}
            case "variables":
                return self._run.graph.template("", "variables", self._run.graph.plan.variables).resolve(self)
            case "run":
                return {
                    "id": self._run.data.id,
                    "attempt": queued.attempt,
                    "workflow": queued.workflow,
                    "subject": queued.subject,
                    "stage": queued.stage,
                    "workspace": self._run.data.workspace,
                    "labels": queued.labels,
                    "requester": queued.requester.name,
                    "created_at": self._run.data.created_at,
                }
            case _:
                raise KeyError(name)

    def _previous(self) -> dict[str, Any]:
        """Give what the steps of a loop's body gave in the round before; nothing in the first."""
        if not self._loop:
            raise KeyError(PREVIOUS)
        found: dict[str, Any] = {}
        for step_id in self._run.graph.inside[self._loop]:
            before = self._run.peek(step_id).before
            if before is not None:
                found[step_id] = self._view(step_id, before)
        return found

    def _view(self, step_id: str, known: StepState | None = None) -> Mapping[str, Any]:
        known = known or self._run.peek(step_id)
        view: dict[str, Any] = {
            "output": self._output(known),
            "status": str(known.status),
            "error": None if known.error is None else {"type": known.error.type, "message": known.error.message},
            "artifacts": artifacts.shown(known, self._library),
        }
        if self._run.graph.index[step_id].is_map:
            view["failed"] = [] if known.map is None else Results(known.map, self._library).failed
        named = self._run.graph.index[step_id].outputs
        if not named:
            return view
        if known.status != StepStatus.SUCCEEDED:
            return {**view, "outputs": None}
        if known.named != NULL:
            return {**view, OUTPUTS: codec.loads(known.named)}
        if known.unmade:
            return Named(view, lambda: _unmade(known.unmade))
        own, loop = _own(self._run, step_id), self._run.graph.index[step_id].parent
        if known is not self._run.peek(step_id):  # of the round before: nothing is held of the one before that
            own["iteration"], loop = own["iteration"] - 1, ""
        inner = RunScope(self._run, self._library, {**own, "output": view["output"]}, loop)
        return Named(view, lambda: self._run.graph.template(step_id, "outputs", named).resolve(inner))

    def _output(self, known: StepState) -> Any:
        if known.map is not None:  # what came first of one that failed is chance
            return Results(known.map, self._library).series if known.status == StepStatus.SUCCEEDED else None
        return codec.loads(self._library.body(known.blob.digest) if known.blob else known.output)


def _unmade(why: str) -> Any:
    raise StepError(why, type="expression_error")


class Named(Mapping[str, Any]):
    """What is recorded of a step that names `outputs`: those are made when an expression asks for them, once."""

    __slots__ = ("_make", "_view")

    def __init__(self, view: dict[str, Any], make: Callable[[], Any]) -> None:
        self._view = view
        self._make = make

    def __getitem__(self, name: str) -> Any:
        """Give a part; raises StepError (expression_error) when the named outputs cannot be made."""
        if name == OUTPUTS and name not in self._view:
            self._view[name] = self._make()
        return self._view[name]

    def __iter__(self) -> Iterator[str]:
        """Go over the names of the parts."""
        return iter(dict.fromkeys((*self._view, OUTPUTS)))

    def __len__(self) -> int:
        """Count the parts."""
        return len(self._view | {OUTPUTS: None})

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a part of that name, without making it."""
        return name == OUTPUTS or name in self._view


def scope_for(run: Run, library: Library, step_id: str, extra: Mapping[str, Any] | None = None) -> RunScope:
    """Give the scope of a step's expressions.

    In a loop's body `iteration` is the round, 1 for the first, and `previous` what its steps gave in the round before.
    """
    return RunScope(run, library, {**_own(run, step_id), **(extra or {})}, run.graph.index[step_id].parent)


def _own(run: Run, step_id: str) -> dict[str, Any]:
    parent = run.graph.index[step_id].parent
    return {"iteration": run.peek(parent).loop} if parent else {}


def undone_scope(run: Run, library: Library, step_id: str) -> RunScope:
    """Give the scope of what undoes a step: `output` is that of the work which is undone, `item` what it was for."""
    item = work.in_hand(run, library)
    if item is None:
        message = f"{step_id}: nothing is being undone"
        raise StepError(message)
    output = codec.loads(library.body(item.blob.digest) if item.blob else item.output)
    extra: dict[str, Any] = {"output": output}
    if item.index is not None:
        here = codec.loads(item.item) if item.iteration else items_of(run, library, item.step)[item.index]
        extra |= {"item": here, "index": item.index}
    if item.iteration:
        extra["iteration"] = item.iteration
    return RunScope(run, library, extra)


def truth(run: Run, library: Library, step_id: str, expression: str, extra: Mapping[str, Any] | None = None) -> bool:
    """Evaluate a step's condition; raises StepError (expression_error) when it is neither true nor false."""
    value = parse(expression).evaluate(scope_for(run, library, step_id, extra))
    if not isinstance(value, bool):
        message = f"the condition {expression!r} must be true or false, not {codec.type_of(value)}"
        raise StepError(message, type="expression_error", details={"expression": expression})
    return value


def told(problem: HeadraceError) -> ErrorInfo:
    """Write an error down."""
    return ErrorInfo(type=problem.type, message=problem.message, details=problem.details, plugin=problem.plugin)


def items_of(run: Run, library: Library, step_id: str) -> list[Any] | Series:
    """Give the list of a map, made once; a long one is not held as values.

    Raises StepError (expression_error) when it is no list.
    """
    known = run.decoded.get(("items", step_id))
    if known is None:
        step = run.graph.index[step_id]
        template = run.graph.template(step_id, "items", step.items)
        known = listed(run, library, template)
        if known is None:
            known = template.resolve(scope_for(run, library, step_id))
        if not isinstance(known, list | Series):
            message = f"step {step_id!r}: `map` must give a list, not {codec.type_of(known)}"
            raise StepError(message, type="expression_error", details={"step": step_id})
        if len(known) > MAP_ITEMS_MAX:
            message = f"step {step_id!r}: `map` gives {len(known)} items; at most {MAP_ITEMS_MAX} are allowed"
            raise StepError(message, type="validation_error", details={"step": step_id, "items": len(known)})
        if isinstance(known, list) and len(known) > run.bounds.items_a_piece:
            known = long_list(known, run.bounds.items_a_piece)
        run.decoded["items", step_id] = known
    return known
