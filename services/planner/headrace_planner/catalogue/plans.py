"""What the catalogue makes of plans: reading a compiled one, and what an approver is shown of it (pure)."""

from collections.abc import Sequence
from typing import Any

from headrace import codec
from headrace.codec import NULL, Raw
from headrace.errors import ValidationError
from headrace.messages import RequestAuthorization
from headrace.plans.model import Plan, parse
from headrace.plans.show import summary
from headrace.specs.problems import error_of

SUBJECT = "plan"
"""The subject of an approval that authorises a plan for every run of it."""


def compiled(body: Raw) -> tuple[Plan, str]:
    """Read the plan that the planner's compile put into a command, and its digest; raises ValidationError."""
    if body == NULL:
        message = "the command brings no plan: it was not compiled"
        raise ValidationError(message)
    data = bytes(body)
    return parse(data), codec.sha256(data)


def refuse_problems(problems: Sequence[dict[str, Any]]) -> None:
    """Raise ValidationError that lists all problems of a document (`details.problems`), if there are any."""
    if problems:
        raise error_of(problems)


def shown(plan: Plan, digest: str, command: RequestAuthorization) -> dict[str, Any]:
    """Give what an approver sees and decides on: the plan in short, its digest, and what they decide."""
    return {
        "subject": SUBJECT,
        "prompt": f"May every run of {plan.name} with this digest use its tools?",
        "roles": list(command.roles),
        "quorum": command.quorum,
        **summary(plan),
        "plan_digest": digest,
    }
