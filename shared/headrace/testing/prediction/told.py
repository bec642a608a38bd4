"""What a simulation tells: data for programs, from which `headrace simulate` writes its text (pure)."""

from typing import Any

import msgspec


class StepTold(msgspec.Struct, kw_only=True, omit_defaults=True):
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
    error: dict[str, str] | None = None
    child: str | None = None


class EffectTold(msgspec.Struct, kw_only=True, omit_defaults=True):
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


class PermissionTold(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A gated tool, and what would have to allow it: approvals of the plan, of the run, or one confirmation."""

    step: str
    tool: str
    effect: str
    covered_by: list[str]
    run: str = ""


class ApprovalTold(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An approval that would be asked for: by whom, what they would see, and what is supposed that they say."""

    step: str
    roles: list[str]
    quorum: int
    shown: Any
    decision: str
    run: str = ""


class WaitTold(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A wait: a timer or the delay before another attempt (`seconds`), a signal or event by name (at most `seconds`)."""

    step: str
    waits_for: str
    run: str = ""
    name: str = ""
    seconds: float | None = None
    given: bool = False


class OpenTold(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the run would stand still for, and what would move it."""

    waits_for: str
    message: str
    remedy: str
    step: str = ""
    run: str = ""


class HappeningTold(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One event on the way, in order: when (virtual seconds), what, and its own words without results."""

    at_s: float
    type: str
    data: dict[str, Any]
    run: str = ""


class Told(msgspec.Struct, kw_only=True):
    """Everything that a simulation says. `run` in its parts is the way to a child's run, empty for the run itself."""

    name: str
    kind: str
    plan_digest: str
    status: str
    error: dict[str, str] | None
    outputs: Any
    virtual_s: float
    cost: str
    steps: list[StepTold]
    effects: list[EffectTold]
    permissions: list[PermissionTold]
    approvals: list[ApprovalTold]
    waits: list[WaitTold]
    open: list[OpenTold]
    path: list[HappeningTold]
    supposed: list[str]
