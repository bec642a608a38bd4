"""Who may do what, by the roles of a token (pure).

A viewer reads. An operator plans, applies, runs, cancels and asks for authorisations. An approver decides, and only on
what names that role (the approvals' own decider says so). An admin may do everything. Headrace itself may do
everything too: it acts on what was decided before.
"""

from types import MappingProxyType
from typing import Final, Literal

from headrace.errors import ForbiddenError
from headrace.events.base import SYSTEM, Actor
from headrace.vocabulary import Role

Action = Literal["run", "plan", "apply", "authorize", "tokens", "connections", "purge"]
NEEDS: Final[MappingProxyType[Action, frozenset[Role]]] = MappingProxyType(
    {
        "run": frozenset({Role.OPERATOR}),
        "plan": frozenset({Role.OPERATOR}),
        "apply": frozenset({Role.OPERATOR}),
        "authorize": frozenset({Role.OPERATOR}),
        "tokens": frozenset(),
        "connections": frozenset(),
        "purge": frozenset(),
    }
)
"""The roles that allow an action, beside admin."""
TRIGGER_ROLES: Final = (Role.OPERATOR.value,)
"""What a trigger may do: start runs, as the person might who applied its workflow."""


def may(actor: Actor, action: Action) -> None:
    """Let an actor do something; raises ForbiddenError that names the roles it takes."""
    allowed = {*NEEDS[action], Role.ADMIN}
    if actor.id == SYSTEM.id or allowed.intersection(actor.roles):
        return
    wanted = " or ".join(sorted(allowed))
    has = ", ".join(actor.roles) or "no role"
    message = f"{actor.name} may not do this ({action}): it takes the role {wanted}, and the token has {has}"
    raise ForbiddenError(message, details={"action": action, "needs": sorted(allowed), "has": list(actor.roles)})
