"""A gate of a third party under the contract, and one that breaks it."""

from typing import Any

import pytest
from pydantic import BaseModel

from headrace.ports.gate import Gate, Verdict
from headrace.testing.contracts import GateContract


class AtLeastConfig(BaseModel):
    """How many artifacts there must be."""

    count: int


class AtLeast:
    """Passes when enough artifacts were recorded."""

    name, version = "at_least", "1"
    config: type[BaseModel] = AtLeastConfig

    def evaluate(self, evidence: dict[str, Any], config: AtLeastConfig) -> Verdict:
        found = len(evidence["artifacts"])
        passed = found >= config.count
        return Verdict(
            outcome="passed" if passed else "failed", message=f"{found} artifacts", evidence={"found": found}
        )


def evidence(count: int) -> dict[str, Any]:
    artifacts = [{"type": "file", "label": str(each), "value": None} for each in range(count)]
    return {"artifacts": artifacts, "steps": {}, "trigger": None, "variables": {}, "inputs": {}, "run": {}}


class TestAtLeast(GateContract):
    def gate(self) -> Gate:
        return AtLeast()

    def passing(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return evidence(2), {"count": 2}

    def failing(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return evidence(1), {"count": 2}


class Generous(AtLeast):
    """Passes whatever there is."""

    def evaluate(self, evidence: dict[str, Any], config: AtLeastConfig) -> Verdict:
        return Verdict(outcome="passed")


class Broken(AtLeast):
    """Raises."""

    def evaluate(self, evidence: dict[str, Any], config: AtLeastConfig) -> Verdict:
        raise KeyError(config.count)


def test_the_contract_bites_a_gate_that_always_passes() -> None:
    class Contract(TestAtLeast):
        def gate(self) -> Gate:
            return Generous()

    with pytest.raises(AssertionError):
        Contract().test_it_never_passes_without_evidence()


def test_a_gate_that_raises_gives_the_outcome_error_and_never_passes() -> None:
    class Contract(TestAtLeast):
        def gate(self) -> Gate:
            return Broken()

    assert Contract().judged(*TestAtLeast().passing())["outcome"] == "error"
