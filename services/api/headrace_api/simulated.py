"""What a simulation tells, as callers receive it: the shapes of `headrace.testing.prediction.told`."""

from typing import Any

from headrace_api.run_shapes import Shape


class SimulatedProblem(Shape):
    """Why a run or step would fail."""

    type: str
    message: str


class SimulatedStep(Shape):
    """What would become of a step, or of its last round. Times are virtual seconds since the run began."""

    step: str
    kind: str
    run: str = ""
    status: str = "not reached"
    reason: str = ""
    began_s: float | None = None
    ended_s: float | None = None
    attempts: int = 0
    rounds: int = 0
    items: int | None = None
    items_failed: int = 0
    output: Any = None
    made_up: bool = False
    error: SimulatedProblem | None = None
    child: str | None = None


class SimulatedEffect(Shape):
    """A call that would be made of a tool, with the arguments it would be given."""

    step: str
    tool: str
    effect: str
    access: str
    arguments: dict[str, Any]
    run: str = ""
    attempt: int = 1
    made_up: bool = False
    error: str | None = None


class SimulatedPermission(Shape):
    """A gated tool, and what would have to allow it."""

    step: str
    tool: str
    effect: str
    covered_by: list[str]
    run: str = ""


class SimulatedApproval(Shape):
    """An approval that would be asked for: by whom, what they would see, and what is supposed that they say."""

    step: str
    roles: list[str]
    quorum: int
    shown: Any
    decision: str
    run: str = ""


class SimulatedWait(Shape):
    """A wait: a timer or a delay (`seconds`), a signal or event by name (at most `seconds`)."""

    step: str
    waits_for: str
    run: str = ""
    name: str = ""
    seconds: float | None = None
    given: bool = False


class SimulatedOpen(Shape):
    """What the run would stand still for, and what would move it."""

    waits_for: str
    message: str
    remedy: str
    step: str = ""
    run: str = ""


class SimulatedHappening(Shape):
    """One event on the way, in order: when (virtual seconds), what, and its own words without results."""

    at_s: float
    type: str
    data: dict[str, Any]
    run: str = ""


class Simulated(Shape):
    """What a document's run would do. A part's `run` is the way to a child's run. Fields at their default are left out."""

    name: str
    kind: str
    plan_digest: str
    status: str
    error: SimulatedProblem | None
    outputs: Any
    virtual_s: float
    cost: str
    steps: list[SimulatedStep]
    effects: list[SimulatedEffect]
    permissions: list[SimulatedPermission]
    approvals: list[SimulatedApproval]
    waits: list[SimulatedWait]
    open: list[SimulatedOpen]
    path: list[SimulatedHappening]
    supposed: list[str]
