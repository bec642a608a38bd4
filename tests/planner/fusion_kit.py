"""A run of three fused steps by hand, and what a worker says of them."""

from collections.abc import Iterable
from typing import Any

import msgspec

from headrace import codec, ids
from headrace.decider import Dispatch
from headrace.events.base import ErrorInfo
from headrace.events.runs import RunEvent, StepSucceeded
from headrace.expressions.scope import Values
from headrace.expressions.template import template
from headrace.messages import ReportAttempt
from headrace.plans.model import InputField
from headrace.wire import WorkOrder
from tests.planner.runs_kit import Sim, call, plan

OTHER = ids.make(ids.RUN, 1_790_000_000_000, b"somebody else", 4)


def chain(**settings: Any) -> Sim:
    """A run of three steps, each of which takes what the one before gave."""
    return Sim(
        plan(
            call("a", arguments={"n": "{{ inputs.n }}"}),
            call("b", "a", arguments={"n": "{{ steps.a.output.n }}"}),
            call("c", "b", arguments={"n": "{{ steps.b.output.n + inputs.n }}"}),
            inputs={"n": InputField(type="integer"), "more": InputField(type="string", required=False)},
            **settings,
        )
    )


def results(sim: Sim, order: WorkOrder, *outputs: Any, goes_on: str = "", skip: int = 0) -> ReportAttempt:
    """What a worker says that has performed a chain as far as there are outputs; an ErrorInfo is a failure."""
    given: dict[str, Any] = codec.loads(order.scope) or {}
    made: dict[str, Any] = dict(given.get("steps", {}))
    told: list[ReportAttempt] = []
    before = ""
    links = [None, *order.chain]
    for link, output in zip(links, outputs, strict=False):
        arguments = order.arguments
        if link is not None:
            arguments = codec.raw(template(codec.loads(link.arguments)).resolve(Values(given.get("roots"), made)))
        failed = isinstance(output, ErrorInfo)
        who = order if link is None else link
        told.append(
            ReportAttempt(
                run_id=sim.id,
                step=who.step,
                attempt=1 if link else order.attempt,
                attempt_id=who.attempt_id,
                status="failed" if failed else "succeeded",
                worker="wrk_1",
                output=codec.NULL if failed else codec.raw(output),
                error=output if failed else None,
                after=before,
                arguments_digest=codec.sha256(arguments) if link else "",
                started_at=sim.now,
                finished_at=sim.now,
            )
        )
        made[who.step], before = {"output": output, "status": "succeeded", "error": None}, who.step
    return joined(told[skip:], goes_on)


def joined(told: list[ReportAttempt], goes_on: str = "") -> ReportAttempt:
    told[-1] = msgspec.structs.replace(told[-1], goes_on=goes_on)
    return told[0] if len(told) == 1 else msgspec.structs.replace(told[0], then=tuple(told[1:]))


def kept(sim: Sim) -> list[Any]:
    done = [one for event, _ in sim.history for one in each(event)]
    return [(one.step, one.attempt, one.arguments_digest, one.output) for one in done]


def each(event: RunEvent) -> Iterable[StepSucceeded]:
    """The successes that an event is about."""
    return [one for one in event.parts if isinstance(one, StepSucceeded)]


def orders(sim: Sim) -> list[WorkOrder]:
    """What a new owner orders."""
    return [effect.order for effect in sim.room.outstanding(sim.run, sim.now) if isinstance(effect, Dispatch)]
