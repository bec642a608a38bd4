"""Which workflows a trigger event starts, and with what (pure).

An event is a CloudEvent in the structured JSON form (https://github.com/cloudevents/spec, version 1.0) or any JSON. In
`when` and in `inputs`, `event` is what it is about (a CloudEvent's `data`, else the JSON itself), and `trigger` is the
whole JSON as it came, which the run keeps as its trigger.
"""

import hashlib
from typing import Any, Final

import msgspec

from headrace import codec
from headrace.errors import HeadraceError, StepError
from headrace.expressions.expression import parse
from headrace.expressions.scope import Values
from headrace.expressions.template import template
from headrace.vocabulary import IDEMPOTENCY_KEY_CHARS_MAX
from headrace_planner.runs.scope import MISSING_KEY

EVENT: Final = "event"
CLOUD_EVENT_NEEDS: Final = ("specversion", "id", "source", "type")


class Trigger(msgspec.Struct, frozen=True):
    """A trigger event: its declared name, its identity (a repeat has the same one), and its content."""

    name: str
    identity: str
    content: Any
    subject: Any


class Start(msgspec.Struct, frozen=True):
    """A workflow that an event starts, and the inputs for it."""

    workflow: dict[str, Any]
    inputs: dict[str, Any]
    priority: int | None = None


class Refused(msgspec.Struct, frozen=True):
    """A workflow that an event is meant for and cannot start, and why."""

    workflow: str
    reason: str
    stream_id: str | None = None


def read(name: str, data: bytes, *, message_id: str, sequence: int, at: int) -> Trigger:
    """Read a message; raises ValidationError when it is no JSON.

    Without an id of its own, its place in the stream and its time tell it apart, also after the stream was made anew.
    """
    content = codec.loads(data)
    if is_cloud_event(content):
        return Trigger(name, f"{content['source']} {content['id']}", content, content.get("data"))
    return Trigger(name, message_id or f"{at}-{sequence}", content, content)


def is_cloud_event(content: Any) -> bool:
    """Tell whether a message is a CloudEvent: it has all attributes that one must have."""
    return isinstance(content, dict) and all(
        isinstance(content.get(name), str) and content[name] for name in CLOUD_EVENT_NEEDS
    )


def key(trigger: Trigger, workflow: str) -> str:
    """Give the idempotency key under which one event starts one workflow once."""
    whole = f"trigger/{workflow}/{trigger.identity}"
    if len(whole) <= IDEMPOTENCY_KEY_CHARS_MAX:
        return whole
    return f"trigger/{hashlib.sha256(whole.encode('utf-8', 'surrogatepass')).hexdigest()}"


def matches(trigger: Trigger, workflows: list[dict[str, Any]]) -> tuple[list[Start], list[Refused]]:
    """Say which workflows (rows of table `workflows`) the event starts, and which it should but cannot."""
    starts: list[Start] = []
    refused: list[Refused] = []
    for workflow in workflows:
        for declared in workflow["triggers"] or ():
            if declared.get("type") != EVENT or declared.get("event") != trigger.name:
                continue
            outcome = _match(trigger, workflow, declared)
            if isinstance(outcome, Start):
                starts.append(outcome)
                break  # two declarations of one workflow that both mean this event start one run
            if isinstance(outcome, Refused):
                refused.append(outcome)
    return starts, refused


def _match(trigger: Trigger, workflow: dict[str, Any], declared: dict[str, Any]) -> Start | Refused | None:
    scope = Values({"trigger": trigger.content, EVENT: trigger.subject})
    try:
        if not _meant(declared.get("when"), scope):
            return None
        if workflow["plan_digest"] is None:
            why = "; ".join(str(problem) for problem in workflow["problems"] or ())
            return Refused(workflow["name"], f"the workflow does not compile any more: {why}", workflow.get("id"))
        return Start(workflow, template(declared.get("inputs") or {}).resolve(scope), declared.get("priority"))
    except HeadraceError as problem:
        return Refused(workflow["name"], problem.message, workflow.get("id"))


def _meant(when: str | None, scope: Values) -> bool:
    if when is None:
        return True
    try:
        return parse(when).holds(scope)
    except StepError as problem:
        if str(problem.details.get("reason", "")).startswith(MISSING_KEY):
            return False
        raise
