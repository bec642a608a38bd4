"""What changed between two plans: steps, pinned tools, authorisation; as data and plain text (pure)."""

from typing import Any, Final

import msgspec

from headrace import codec
from headrace.plans.model import Plan, PlanStep, digest

PARTS: Final = ("inputs", "variables", "tools", "workflows", "steps", "compensations")
"""What is told part by part; every other field of a plan is told as one of its own."""
PLAN_FIELDS: Final = tuple(name for name in Plan.__struct_fields__ if name not in PARTS)


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One difference. `what` is plan, step, tool, workflow, input or variable; `how` is added, removed or changed.

    For a change `field` says of what, `old` and `new` its values. What undoes a step is the step `<step>.compensate`.
    """

    what: str
    how: str
    name: str
    field: str = ""
    old: Any = None
    new: Any = None

    def __str__(self) -> str:
        sign = {"added": "+", "removed": "-"}.get(self.how, "~")
        text = f"{sign} {self.what} {self.name}"
        if self.how in {"added", "removed"}:
            return text
        return f"{text}: {self.field} {_shown(self.old)} → {_shown(self.new)}"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What lies between two plans; none when their digests are equal."""

    old_digest: str
    new_digest: str
    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return self.old_digest != self.new_digest

    def text(self) -> str:
        """Give the difference as lines."""
        if not self:
            return f"no change: both are {self.old_digest}"
        head = [f"- {self.old_digest}", f"+ {self.new_digest}"]
        return "\n".join([*head, *(str(change) for change in self.changes)])


def diff(old: Plan, new: Plan) -> Difference:
    """Give every difference between two plans, those of the plan itself first."""
    changes = [*_fields("plan", new.name, _whole(old), _whole(new), PLAN_FIELDS)]
    for what, before, after in (
        ("input", old.inputs, new.inputs),
        ("variable", old.variables, new.variables),
        ("tool", old.tools, new.tools),
        ("workflow", old.workflows, new.workflows),
    ):
        changes += _mapping(what, msgspec.to_builtins(before), msgspec.to_builtins(after))
    changes += _steps(old, new)
    return Difference(old_digest=digest(old), new_digest=digest(new), changes=tuple(changes))


def _steps(old: Plan, new: Plan) -> list[Change]:
    before = {step.id: _flat(step) for step in (*old.steps, *old.compensations)}
    after = {step.id: _flat(step) for step in (*new.steps, *new.compensations)}
    changes = _mapping("step", before, after)
    kept_before = [step_id for step_id in before if step_id in after]
    kept_after = [step_id for step_id in after if step_id in before]
    if kept_before != kept_after:
        changes.append(
            Change(what="plan", how="changed", name=new.name, field="order", old=kept_before, new=kept_after)
        )
    return changes


def _flat(step: PlanStep) -> dict[str, Any]:
    """Give a step's fields, those of its body beside the others, so that a change names the field it is in."""
    whole = _whole(step)
    del whole["body"]
    body = {f"{step.kind}.{name}" if name in whole else name: value for name, value in _whole(step.body).items()}
    return {**whole, **body}


def _whole(part: msgspec.Struct) -> dict[str, Any]:
    """Give every field of a part, also those that have their default."""
    return {name: msgspec.to_builtins(getattr(part, name)) for name in part.__struct_fields__}


def _mapping(what: str, before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    changes: list[Change] = []
    for name, new in after.items():
        if name not in before:
            changes.append(Change(what=what, how="added", name=name, new=new))
            continue
        found: list[Change] = []
        if isinstance(new, dict) and isinstance(before[name], dict):
            found = _fields(what, name, before[name], new, tuple(dict.fromkeys([*before[name], *new])))
        if not found and not _same(before[name], new):
            found = [Change(what=what, how="changed", name=name, field="value", old=before[name], new=new)]
        changes += found
    changes += [
        Change(what=what, how="removed", name=name, old=old) for name, old in before.items() if name not in after
    ]
    return changes


def _fields(
    what: str, name: str, before: dict[str, Any], after: dict[str, Any], fields: tuple[str, ...]
) -> list[Change]:
    return [
        Change(what=what, how="changed", name=name, field=field, old=before.get(field), new=after.get(field))
        for field in fields
        if not _same(before.get(field), after.get(field))
    ]


def _same(one: Any, other: Any) -> bool:
    return codec.canonical(one) == codec.canonical(other)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value else codec.dumps(value).decode("utf-8", "surrogatepass")
