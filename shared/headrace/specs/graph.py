"""Which step needs which: named, implied by references, by branches, and by a chain (pure)."""

from collections.abc import Iterable, Mapping, Sequence

from headrace.specs.models import Step
from headrace.specs.uses import named_steps


def needs(steps: Sequence[Step], *, chain: bool = False) -> dict[str, tuple[str, ...]]:
    """Give what each step needs, in the order of the document; names of steps that do not exist are left out.

    A step needs what its `depends_on` and its expressions name, and the conditions whose branches name it. In a
    `chain` it needs the one before it too, unless it has a `depends_on`.
    """
    order = {step.id: number for number, step in enumerate(steps)}
    wanted: dict[str, set[str]] = {step.id: set() for step in steps}
    for number, step in enumerate(steps):
        wanted[step.id].update(step.depends_on, named_steps(step))
        if chain and number > 0 and "depends_on" not in step.model_fields_set:
            wanted[step.id].add(steps[number - 1].id)
        if step.choice is not None:
            for branch in (*step.choice.then, *step.choice.else_):
                if branch in wanted:
                    wanted[branch].add(step.id)
    return {
        step_id: tuple(sorted((need for need in needed if need in order), key=order.__getitem__))
        for step_id, needed in wanted.items()
    }


def cycle(graph: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Give one cycle as the steps on its way, the first again at the end (`a, b, c, a`); empty when there is none."""
    done: set[str] = set()
    for start in graph:
        way: list[str] = []
        on_way: set[str] = set()
        stack: list[tuple[str, bool]] = [(start, True)]
        while stack:
            step_id, entering = stack.pop()
            if not entering:
                way.pop()
                on_way.discard(step_id)
                done.add(step_id)
            elif step_id in on_way:
                return tuple(reversed([*way[way.index(step_id) :], step_id]))
            elif step_id not in done:
                way.append(step_id)
                on_way.add(step_id)
                stack.append((step_id, False))
                stack.extend((need, True) for need in graph[step_id] if need in graph)
    return ()


def topological(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Put steps so that each comes after what it needs, otherwise in the order given; the graph has no cycle."""
    placed: dict[str, None] = {}
    for start in graph:
        stack = [(start, False)]
        while stack:
            step_id, ready = stack.pop()
            if step_id in placed:
                continue
            if ready:
                placed[step_id] = None
                continue
            stack.append((step_id, True))
            stack.extend((need, False) for need in reversed(list(graph[step_id])) if need not in placed)
    return list(placed)
