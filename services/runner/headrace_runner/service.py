"""The runner: performs tools and http for the pool `runner`. Stateless, without credentials or database."""

from collections.abc import Sequence
from typing import Any

from headrace.config import Config
from headrace.vocabulary import POOL_RUNNER
from headrace.worker.registry import GROUP
from headrace.worker.service import run_worker_service
from headrace_runner.tools.addresses import AddressGuard
from headrace_runner.tools.files import FileCreate, FileRead, FileWrite
from headrace_runner.tools.find import FileGlob, FileSearch
from headrace_runner.tools.http import Http, HttpWrite
from headrace_runner.tools.symbols import SymbolsInFile


class RunnerService:
    """The service `runner`."""

    name = "runner"

    def pools(self) -> Sequence[str]:
        """Give the pools it works for."""
        return (POOL_RUNNER,)

    def tools(self, config: Config) -> Sequence[Any]:
        """Give its own tools; installed plug-ins (`headrace.tools`) come beside them."""
        guard = AddressGuard(allow_private=config.allow_private_addresses)
        return (
            FileRead(),
            FileWrite(),
            FileCreate(),
            FileSearch(),
            FileGlob(),
            SymbolsInFile(),
            Http(guard),
            HttpWrite(guard),
        )

    async def run(self, config: Config) -> None:
        """Serve until cancelled, then drain."""
        await run_worker_service(self.name, self.pools(), self.tools, config, plugins=GROUP)


service = RunnerService()
