"""The gates `expression` and `custom`: a boolean CEL expression over what is recorded (pure)."""

from typing import Any, Final

from pydantic import field_validator

from headrace.errors import HeadraceError
from headrace.expressions.expression import parse
from headrace.expressions.scope import Values
from headrace.ports.gate import Verdict
from headrace_gatekeeper.gates.recorded import GateConfig, error, failed, passed

ROOTS: Final = ("trigger", "variables", "inputs", "run", "iteration", "previous")
"""What an expression may speak of, beside `steps`; the last two in a loop's body."""


class ExpressionConfig(GateConfig):
    """Config of `expression`."""

    expression: str

    @field_validator("expression")
    @classmethod
    def _readable(cls, expression: str) -> str:
        try:
            parse(expression)
        except HeadraceError as problem:
            raise ValueError(problem.message) from problem
        return expression


class Expression:
    """Passes when the expression is true; anything but true or false is an error."""

    name, version, config = "expression", "1", ExpressionConfig

    def evaluate(self, evidence: dict[str, Any], config: ExpressionConfig) -> Verdict:
        """Judge; pure."""
        roots: dict[str, Any] = {name: evidence[name] for name in ROOTS if name in evidence}
        try:
            value = parse(config.expression).holds(Values(roots, evidence.get("steps") or {}))
        except HeadraceError as problem:
            unmade = evidence.get("unmade") or []
            why = f" ({'; '.join(unmade)})" if unmade else ""
            return error(problem.message + why, expression=config.expression)
        if value:
            return passed(f"{config.expression!r} is true", expression=config.expression)
        return failed(f"{config.expression!r} is false", expression=config.expression)


class Custom(Expression):
    """`expression` by its older name."""

    name = "custom"


gate = Expression()
custom = Custom()
