"""Which step needs which: named, implied by references, by branches, and by a chain (pure)."""

from collections.abc import Iterable, Mapping, Sequence

from headrace.specs.models import Step
from headrace.specs.uses import named_steps


def parents(steps: Sequence[Step]) -> dict[str, str]:
    """Give the loop that each step of a loop's body belongs to; the first that names it."""
    found: dict[str, str] = {}
    for step in steps:
        if step.loop is not None:
            for name in step.loop.steps:
                if name != step.id:
                    found.setdefault(name, step.id)
    return found


def needs(steps: Sequence[Step], *, chain: bool = False) -> dict[str, tuple[str, ...]]:
    """Give what each step needs, in the order of the document; names of steps that do not exist are left out.

    A step needs what its `depends_on` and its expressions name, and the conditions whose branches name it. In a
    `chain` it needs the one before it too, unless it has a `depends_on`. A step of a loop's body needs only steps of
    the same body: what it needs from outside its loop needs, and what needs it from outside needs its loop.
    """
    order = {step.id: number for number, step in enumerate(steps)}
    inside = parents(steps)
    wanted: dict[str, set[str]] = {step.id: set() for step in steps}

    def need(step_id: str, needed: str) -> None:
        if needed in order:
            below, above = beside(step_id, needed, inside)
            if below in wanted and below != above:
                wanted[below].add(above)

    for number, step in enumerate(steps):
        for name in (*step.depends_on, *named_steps(step)):
            need(step.id, name)
        if chain and number > 0 and "depends_on" not in step.model_fields_set:
            need(step.id, steps[number - 1].id)
        if step.choice is not None:
            for branch in (*step.choice.then, *step.choice.else_):
                if branch in wanted:
                    need(branch, step.id)
    return {step_id: tuple(sorted(needed, key=order.__getitem__)) for step_id, needed in wanted.items()}


def beside(step_id: str, needed: str, inside: Mapping[str, str]) -> tuple[str, str]:
    """Give two steps, or the loops around them, that stand beside each other; the same one when one holds the other."""
    around = _around(step_id, inside)
    other = _around(needed, inside)
    shared = next((loop for loop in around[1:] if loop in other[1:]), "")
    return around[around.index(shared) - 1] if shared else around[-1], (
        other[other.index(shared) - 1] if shared else other[-1]
    )


def _around(step_id: str, inside: Mapping[str, str]) -> list[str]:
    """Give a step and the loops around it, the innermost first."""
    way = [step_id]
    while way[-1] in inside and inside[way[-1]] not in way:
        way.append(inside[way[-1]])
    return way


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
