"""What differs between two plans is told, whatever it is: a digest that changed without a word would be no help."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from headrace.events.base import RateLimit
from headrace.plans.diff import diff
from headrace.plans.model import (
    ApprovalStep,
    ArtifactSpec,
    CallStep,
    Concurrency,
    ConditionStep,
    GateStep,
    InputField,
    LoopStep,
    Plan,
    PlanStep,
    Retry,
    StepBody,
    SubWorkflowStep,
    ToolPin,
    TransformStep,
    WaitStep,
    WorkflowPin,
    digest,
)

PIN: Final = ToolPin(
    version="1",
    digest="sha256:a",
    effect="write",
    access="gated",
    pool="runner",
    idempotent=True,
    rate_limit=RateLimit(limit=1, period_s=60),
)
BODIES: Final[dict[str, StepBody]] = {
    "tool": CallStep(tool="note", arguments={"n": 1}),
    "transform": TransformStep(value={"n": 1}),
    "condition": ConditionStep(expression="1 < 2", then=("one",), otherwise=("other",)),
    "gate": GateStep(gate="expression", config={"expression": "1 < 2"}),
    "approval": ApprovalStep(prompt="Well?"),
    "wait": WaitStep(event="deploy.done", when="event.ok"),
    "loop": LoopStep(condition="iteration < 2", body=("inner",)),
    "sub_workflow": SubWorkflowStep(workflow="child", inputs={"n": 1}),
}
STEPS: Final = tuple(
    PlanStep(
        id=kind,
        kind=kind,
        body=body,
        when="2 > 1",
        retry=Retry(max_attempts=2, on=("timeout",)),
        artifacts=(ArtifactSpec(type="url", label="l"),),
    )
    for kind, body in BODIES.items()
)
UNDO: Final = PlanStep(
    id="tool.compensate", kind="tool", body=CallStep(tool="undo", arguments={"n": 1}), compensates="tool"
)
PLAN: Final = Plan(
    name="p",
    kind="Workflow",
    steps=STEPS,
    tools={"note": PIN},
    inputs={"given": InputField(type="string")},
    variables={"plain": 1, "many": {"a": 1}},
    outputs={"n": 1},
    views=({"id": "v"},),
    workflows={"child": WorkflowPin(version=1, digest="sha256:b")},
    compensations=(UNDO,),
    concurrency=Concurrency(key="k"),
)


def other(value: Any) -> Iterator[tuple[str, Any]]:
    """Give values that differ from one in a single place each, with the way to that place."""
    match value:
        case msgspec.Struct():
            for name in value.__struct_fields__:
                for where, changed in other(getattr(value, name)):
                    yield f".{name}{where}", msgspec.structs.replace(value, **{name: changed})
        case dict():
            for key, inner in value.items():
                for where, changed in other(inner):
                    yield f".{key}{where}", {**value, key: changed}
            yield ".more", {**value, "more": next(iter(value.values()), None)}
            yield ".nothing", {**value, "nothing": None}
        case tuple():
            for number, inner in enumerate(value):
                for where, changed in other(inner):
                    yield f"[{number}]{where}", (*value[:number], changed, *value[number + 1 :])
                yield f"[{number}] left out", (*value[:number], *value[number + 1 :])
        case bool():
            yield "", not value
        case int() | float():
            yield "", value + 1
        case str():
            yield "", f"{value}!"
        case _:
            yield "", 7


def fits(plan: Plan) -> bool:
    """Tell whether a plan is one that could be read again."""
    try:
        return msgspec.convert(msgspec.to_builtins(plan), Plan) == plan
    except msgspec.ValidationError:
        return False


def tells(old: Plan, new: Plan) -> bool:
    """Tell whether a difference says something, and nothing that is not so."""
    changes = diff(old, new).changes
    return bool(changes) and all(change.how != "changed" or change.old != change.new for change in changes)


def test_whatever_changes_the_digest_is_told() -> None:
    altered = [(where, plan) for where, plan in other(PLAN) if fits(plan) and digest(plan) != digest(PLAN)]
    assert len(altered) > len(STEPS) * 20
    assert [where for where, plan in altered if not (tells(PLAN, plan) and tells(plan, PLAN))] == []


def test_what_undoes_a_step_and_what_it_runs_as_a_child_are_named() -> None:
    undo = msgspec.structs.replace(UNDO, body=CallStep(tool="undo", arguments={"n": 2}))
    pin = WorkflowPin(version=2, digest="sha256:c")
    changed = msgspec.structs.replace(PLAN, compensations=(undo,), workflows={"child": pin}, priority=5)
    assert [str(change) for change in diff(PLAN, changed).changes] == [
        "~ plan p: priority 0 → 5",
        "~ workflow child: version 1 → 2",
        "~ workflow child: digest sha256:b → sha256:c",
        '~ step tool.compensate: arguments {"n":1} → {"n":2}',
    ]


def test_a_guard_is_not_taken_for_what_a_wait_asks_of_its_event() -> None:
    wait = PlanStep(id="w", kind="wait", body=WaitStep(event="e", when="event.ok"), when="1 < 2")
    changed = msgspec.structs.replace(wait, when="1 < 3", body=WaitStep(event="e", when="event.no"))
    one, another = (Plan(name="p", kind="Workflow", steps=(step,)) for step in (wait, changed))
    assert [str(change) for change in diff(one, another).changes] == [
        "~ step w: when 1 < 2 → 1 < 3",
        "~ step w: wait.when event.ok → event.no",
    ]
