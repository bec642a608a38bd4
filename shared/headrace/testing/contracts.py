"""Contract suites that a third party runs on its own plug-in: subclass one, say what is to be tested, run pytest.

    class TestGreet(ToolContract):
        def tool(self):
            return Greet()

        def arguments(self):
            return {"name": "Ada"}

The tests need pytest and nothing else; a tool is performed by the real ToolRunner over memory twins.
"""

import asyncio
import copy
import tempfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from headrace import codec
from headrace.messages import ReportAttempt
from headrace.plans.model import manifest_digest
from headrace.ports.gate import Gate
from headrace.ports.integration import Integration
from headrace.ports.tool import Tool
from headrace.vocabulary import Access, AttemptStatus, Effect, Outcome
from headrace.worker.adapter import adapt, operations
from headrace.worker.manifests import manifest_of
from headrace.worker.twins import Bench


class ToolContract:
    """What every tool keeps to. `arguments` must succeed on the folder that `prepare` has filled."""

    def tool(self) -> Any:
        """Give the tool: by the Tool port, or a plug-in with `run(payload)`."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """Give arguments that succeed."""
        raise NotImplementedError

    def wrong_arguments(self) -> list[dict[str, Any]]:
        """Give arguments that must be refused before the tool is called."""
        return []

    def prepare(self, root: Path) -> None:
        """Fill the file root for `arguments`."""

    def adapted(self) -> Tool:
        """Give the tool as ToolRunner meets it."""
        return adapt(self.tool())

    def performed(self, arguments: dict[str, Any], **fields: Any) -> tuple[Bench, ReportAttempt]:
        """Perform the tool in a fresh file root."""
        tool = self.adapted()
        with tempfile.TemporaryDirectory() as folder:
            self.prepare(Path(folder))
            bench = Bench(Path(folder), tool)
            return bench, asyncio.run(bench.perform(tool.name, arguments, **fields))

    def test_its_manifest_says_what_a_plan_must_know(self) -> None:
        """The manifest is complete, and the same each time: plans pin its digest."""
        manifest = manifest_of(self.adapted())
        assert manifest.name
        assert manifest.version
        assert manifest.description, "people read the description when they choose a tool"
        assert manifest.input_schema.get("type") == "object"
        assert manifest_digest(manifest) == manifest_digest(manifest_of(self.adapted()))

    def test_what_it_does_to_the_world_is_not_done_by_itself(self) -> None:
        """A tool that writes or notifies needs an approval, or is forbidden."""
        manifest = manifest_of(self.adapted())
        assert manifest.effect in set(Effect)
        assert manifest.effect == Effect.READ or manifest.access in {Access.GATED, Access.FORBIDDEN}

    def test_its_arguments_succeed_with_an_object_and_evidence(self) -> None:
        """The result is a JSON object with a source and a time."""
        bench, report = self.performed(self.arguments())
        assert report.status == AttemptStatus.SUCCEEDED, report.error
        assert isinstance(bench.output(report), dict)
        assert report.evidence is not None
        assert report.evidence.fetched_at > 0

    def test_a_write_is_claimed_first(self) -> None:
        """Without the owner's permission nothing is performed."""
        tool = self.adapted()
        if tool.effect == Effect.READ:
            return
        with tempfile.TemporaryDirectory() as folder:
            self.prepare(Path(folder))
            before = _tree(Path(folder))
            bench = Bench(Path(folder), tool, granted=False)
            report = asyncio.run(bench.perform(tool.name, self.arguments()))
            assert report.status == AttemptStatus.FAILED
            assert bench.registry.get(tool.name).last_used is None or bench.registry.get(tool.name).success_count == 0
            assert _tree(Path(folder)) == before

    def test_wrong_arguments_are_refused_before_it_is_called(self) -> None:
        """Validation comes first: the call is not even counted."""
        for arguments in self.wrong_arguments():
            bench, report = self.performed(arguments)
            record = bench.registry.get(self.adapted().name)
            assert report.error is not None, arguments
            assert report.error.type in {"validation_error", "missing_argument"}, report.error
            assert record.last_used is None, "the tool was called with wrong arguments"


class GateContract:
    """What every gate keeps to: pure, never passing by accident, and JSON through and through."""

    def gate(self) -> Gate:
        """Give the gate."""
        raise NotImplementedError

    def passing(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give evidence and config with which it passes."""
        raise NotImplementedError

    def failing(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give evidence and config with which it fails."""
        raise NotImplementedError

    def judged(self, evidence: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
        """Give the verdict as it is recorded, through ToolRunner."""
        gate = self.gate()
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), gate)
            order = bench.perform(f"gate.{gate.name}", config, evidence=codec.raw(evidence))
            report = asyncio.run(order)
            assert report.status == AttemptStatus.SUCCEEDED, report.error
            verdict: dict[str, Any] = bench.output(report)
            return verdict

    def test_it_passes_on_what_it_asks_for(self) -> None:
        """The evidence that should pass does."""
        assert self.judged(*self.passing())["outcome"] == Outcome.PASSED

    def test_it_fails_on_what_it_forbids_and_says_why(self) -> None:
        """A failure carries a message."""
        verdict = self.judged(*self.failing())
        assert verdict["outcome"] == Outcome.FAILED
        assert verdict["message"]

    def test_it_never_passes_without_evidence(self) -> None:
        """Nothing recorded is never enough."""
        _, config = self.failing()
        assert self.judged(_nothing(), config)["outcome"] != Outcome.PASSED

    def test_the_same_evidence_gives_the_same_verdict_and_is_not_changed(self) -> None:
        """Gates are pure: a rebuild judges again and must agree."""
        evidence, config = self.passing()
        before = copy.deepcopy(evidence)
        gate = self.gate()
        parsed: BaseModel = gate.config.model_validate(config)
        first, second = gate.evaluate(evidence, parsed), gate.evaluate(evidence, parsed)
        assert first == second
        assert evidence == before


class IntegrationContract:
    """What every integration keeps to."""

    def integration(self) -> Integration:
        """Give the integration."""
        raise NotImplementedError

    def test_its_operations_are_tools_under_its_name(self) -> None:
        """Each operation is `<integration>.<operation>`, needs the connection, and says what it does to the world."""
        integration = self.integration()
        tools = operations(integration)
        assert tools
        for tool in tools:
            manifest = manifest_of(tool)
            assert manifest.name.startswith(f"{integration.name}.")
            assert manifest.requires_connection == integration.name
            assert manifest.description
            assert manifest.effect == Effect.READ or manifest.access != Access.AUTO

    def test_a_query_gives_rows(self) -> None:
        """Reads keep the result contract: rows, source, fetched_at, complete, next_cursor."""
        for tool in operations(self.integration()):
            if tool.effect == Effect.READ:
                assert {"rows", "source", "fetched_at", "complete", "next_cursor"} <= set(tool.output.model_fields)

    def test_without_its_secrets_nothing_is_called(self) -> None:
        """A connection that lacks a secret is refused before the outside is asked."""
        integration = self.integration()
        if not integration.secrets:
            return
        for tool in operations(integration):
            with tempfile.TemporaryDirectory() as folder:
                bench = Bench(Path(folder), tool)
                connection = codec.raw({"name": integration.name, "settings": {}, "secrets": {}})
                report = asyncio.run(bench.perform(tool.name, {}, connection=connection))
            assert report.error is not None
            assert report.error.type == "integration_auth_error"
            assert bench.registry.get(tool.name).last_used is None

    def test_base_urls_are_configurable(self) -> None:
        """Every address comes from the settings, so that tests can point it at a server of their own."""
        fields = self.integration().settings.model_fields
        assert any(name.endswith("url") for name in fields)


def _tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _nothing() -> dict[str, Any]:
    return {"artifacts": [], "steps": {}, "trigger": None, "variables": {}, "inputs": {}, "run": {}}
