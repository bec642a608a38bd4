"""Which approvals stand before a step, whatever way a run takes (pure).

An approval covers a step when the step cannot begin unless the approval was given: it is among what the step needs, on
a way of steps that cannot be skipped while the step runs. A step is skipped when its condition is false, its branch is
not chosen, or everything it needs was skipped; an approval with `on_error: continue` lets go on what it should hold.
"""

from collections.abc import Mapping, Sequence

from headrace.specs.models import Step

Branch = tuple[str, str]


def covering(steps: Sequence[Step], needs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Give for each step the approvals that cover it, in the order of the document."""
    return _Cover(steps, needs).all()


class _Cover:
    def __init__(self, steps: Sequence[Step], needs: Mapping[str, tuple[str, ...]]) -> None:
        self._steps = {step.id: step for step in steps}
        self._needs = needs
        self._branches: dict[str, set[Branch]] = {step.id: set() for step in steps}
        for step in steps:
            if step.choice is not None:
                for side, names in (("then", step.choice.then), ("else", step.choice.else_)):
                    for name in names:
                        if name in self._branches:
                            self._branches[name].add((step.id, side))

    def all(self) -> dict[str, tuple[str, ...]]:
        """Give the approvals of every step."""
        return {step_id: self._approvals(step_id) for step_id in self._steps}

    def _approvals(self, step_id: str) -> tuple[str, ...]:
        running = self._running(step_id)
        chosen = set().union(*(self._branches[one] for one in running))
        sure: dict[str, bool] = dict.fromkeys(running, True)
        reached: set[str] = set()
        stack = list(self._needs[step_id])
        while stack:
            need = stack.pop()
            if need not in reached and self._runs(need, chosen, sure):
                reached.add(need)
                stack.extend(self._needs[need])
        return tuple(
            one
            for one, step in self._steps.items()
            if one in reached and step.approval is not None and step.on_error == "fail"
        )

    def _running(self, step_id: str) -> set[str]:
        """Give the steps that ran if this one does: along needs that are the only one."""
        running = {step_id}
        here = step_id
        while len(self._needs[here]) == 1:
            here = self._needs[here][0]
            running.add(here)
        return running

    def _runs(self, step_id: str, chosen: set[Branch], sure: dict[str, bool]) -> bool:
        """Tell whether a step is surely not skipped, given the branches that were chosen."""
        if step_id not in sure:
            sure[step_id] = False
            step = self._steps[step_id]
            sure[step_id] = (
                step.guard is None
                and self._branches[step_id] <= chosen
                and (not self._needs[step_id] or any(self._runs(need, chosen, sure) for need in self._needs[step_id]))
            )
        return sure[step_id]
