"""What an order may bring to a tool: secrets are resolved where connections live and nowhere else, and never shown."""

from pathlib import Path
from typing import Any

from headrace import codec
from headrace.ports.tool import ToolContext
from headrace.worker.twins import Bench
from tests.shared.test_worker_tool_runner import Gives, error

CONNECTION = codec.raw({"name": "work", "settings": {"owner": "us"}, "secrets": {"token": "env:GITHUB_TOKEN"}})


class Vault:
    """Resolves references, and remembers which."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []

    async def resolve(self, references: dict[str, str]) -> dict[str, str]:
        self.asked.append(references)
        return dict.fromkeys(references, "s3cr3t")


async def test_a_service_without_secrets_performs_nothing_that_needs_one(tmp_path: Path) -> None:
    gives = Gives({})
    report = await Bench(tmp_path, gives).perform("gives", connection=CONNECTION)
    assert (error(report).type, gives.calls) == ("forbidden", 0)
    assert "this service resolves no secrets" in error(report).message


async def test_a_tool_is_given_the_settings_and_the_secrets_of_its_connection_and_no_report_shows_them(
    tmp_path: Path,
) -> None:
    seen: list[tuple[dict[str, Any], dict[str, str]]] = []

    def shows(context: ToolContext) -> dict[str, Any]:
        seen.append((context.settings, context.secrets))
        return {"said": "the token is s3cr3t"}

    vault = Vault()
    bench = Bench(tmp_path, Gives(shows), secrets=vault)
    report = await bench.perform("gives", connection=CONNECTION)
    assert seen == [({"owner": "us"}, {"token": "s3cr3t"})]
    assert vault.asked == [{"token": "env:GITHUB_TOKEN"}]
    assert "s3cr3t" not in str(report)
    raising = Bench(tmp_path, Gives(ValueError("s3cr3t is wrong")), secrets=vault)
    assert "s3cr3t" not in str(await raising.perform("gives", connection=CONNECTION))


async def test_nothing_is_resolved_for_a_connection_without_secrets_or_an_order_without_a_connection(
    tmp_path: Path,
) -> None:
    vault = Vault()
    bench = Bench(tmp_path, Gives({}), secrets=vault)
    assert (await bench.perform("gives")).status == "succeeded"
    assert (await bench.perform("gives", connection=codec.raw({"settings": {}}))).status == "succeeded"
    assert vault.asked == []


async def test_a_connection_that_the_tool_does_not_accept_is_not_used(tmp_path: Path) -> None:
    def refuse(settings: dict[str, Any], secrets: dict[str, str]) -> dict[str, Any]:
        message = f"no owner among {sorted(settings)}, with {sorted(secrets)}"
        raise ValueError(message)

    gives = Gives({}, check_connection=refuse)
    report = await Bench(tmp_path, gives, secrets=Vault()).perform("gives", connection=CONNECTION)
    assert "no owner among ['owner'], with ['token']" in error(report).message
    assert "no owner among [], with []" in error(await Bench(tmp_path, gives).perform("gives")).message
    assert gives.calls == 0


async def test_an_order_of_another_pool_is_refused_and_who_only_reads_asks_for_no_permission(tmp_path: Path) -> None:
    gives = Gives({})
    bench = Bench(tmp_path, gives)
    assert error(await bench.perform("gives", pool="gates")).type == "forbidden"
    assert gives.calls == 0
    assert (await bench.perform("gives")).status == "succeeded"
    assert bench.claimer.claimed == []


async def test_a_tool_that_runs_out_of_time_learns_that_it_shall_stop(tmp_path: Path) -> None:
    contexts: list[Any] = []

    class Waits(Gives):
        async def perform(self, context: ToolContext, input: Any) -> Any:
            contexts.append(context)
            await bench.clock.sleep(60)

    bench = Bench(tmp_path, Waits())
    report = await bench.perform("gives", timeout_s=0.01)
    assert (report.status, error(report).type) == ("timed_out", "timeout")
    assert contexts[0].cancelled
