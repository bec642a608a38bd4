"""What a run waits for, as sentences: one for each thing, with what would move it (pure)."""

from collections.abc import Mapping
from typing import Any, Final, assert_never

from headrace.vocabulary import WaitingFor
from headrace_api import views

NOTHING: Final = "nothing to do"


def told(run_id: str, requester: str | None, kept: Mapping[str, Any]) -> tuple[str, str]:
    """Give the sentence and the remedy for an entry of a run's `waiting`; commands stand in backticks, to be pasted."""
    step, said = kept.get("step"), str(kept.get("message") or "")
    until = views.at(kept.get("until"))
    who = f"step {step}" if step else "it"
    most = f", until {until} at the latest" if until else ""
    if kept.get("for") not in set(WaitingFor):
        return f"{who} waits for {kept.get('for')}: {said}{most}", f"`headrace runs show {run_id}`"
    waits = WaitingFor(str(kept["for"]))
    match waits:
        case WaitingFor.APPROVAL:
            what = f"{who} waits" if step else "all of its gated tools wait"
            late = f"; undecided at {until} it counts as rejected" if until else ""
            message = f"{what} for the approval of {_people(said)} other than {requester}{late}"
            return message, f"one of them decides: `headrace approvals approve {kept.get('approval_id')}`"
        case WaitingFor.START:
            return "it waits for somebody to start it", f"`headrace runs start {run_id}`"
        case WaitingFor.RESUME:
            return f"it is {said}: nothing new begins", f"`headrace runs resume {kept.get('parent_id') or run_id}`"
        case WaitingFor.TIMER:
            return f"{who} waits until {until}", f"{NOTHING}: it goes on at that time"
        case WaitingFor.RETRY:
            return retried(kept, None, paused=False)
        case WaitingFor.INPUT:
            named = (kept.get("evidence") or {}).get("step") or step
            answers = "--happened [--output JSON] | --not-happened | --give-up"
            return said, f"look what happened, and say so: `headrace runs settle {run_id} {named} {answers}`"
        case WaitingFor.SIGNAL:
            return f"{who} waits for {said}{most}", f"`headrace runs signal {run_id} {kept.get('name')}`"
        case WaitingFor.EVENT:
            other = kept.get("run_id")
            remedy = (
                f"`headrace runs explain {other}`" if other else f"`headrace trigger {kept.get('name')} --data JSON`"
            )
            return f"{who} waits for {said}{most}", remedy
        case WaitingFor.CHILDREN:
            first = next(iter(kept.get("children") or ()), run_id)
            return f"{who} waits for {said}", f"see why that one does not move: `headrace runs explain {first}`"
        case WaitingFor.CONNECTION:
            return f"{who} waits for the connection {said}", f"`headrace connections set {said}`"
        case WaitingFor.CONCURRENCY | WaitingFor.RATE_LIMIT:
            return f"{who} waits for {said}{most}", f"{NOTHING}: it goes on when the key has room"
        case _:
            assert_never(waits)


def retried(kept: Mapping[str, Any], error: Mapping[str, Any] | None, *, paused: bool) -> tuple[str, str]:
    """Say what is tried again, when, and after which error; a paused run tries nothing before it goes on."""
    step, until, items = kept.get("step"), views.at(kept.get("until")), kept.get("items")
    why = f" ({error['type']}: {error['message']})" if error is not None else ""
    if items is not None:  # of a map
        failed, which = (
            f"{kept.get('message')} of step {step} failed and {'is' if items == 1 else 'are'} tried again",
            "",
        )
        first = ", the first of them" if items > 1 else ""
    else:
        failed, which = (
            f"{f'step {step}' if step else 'it'} failed{why} and is tried again",
            f" ({kept.get('message')})",
        )
        first = ""
    if paused:
        return f"{failed} when the run goes on, not before {until}{which}", f"{NOTHING} but to resume it"
    return f"{failed}{first} at {until}{which}", f"{NOTHING}: it is tried again at that time"


def _people(said: str) -> str:
    """Read `1 of approver`, which says that one is needed of those roles, as people do."""
    number, of, roles = said.partition(" of ")
    if not of or (number == "1" and " or " not in roles):
        return f"{number} {roles}".rstrip()
    return f"{number} {'person' if number == '1' else 'people'} with the role {roles}"
