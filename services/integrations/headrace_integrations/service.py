"""The integrations service: performs operations on outside systems, and is the one place where secrets are resolved."""

from collections.abc import Sequence
from typing import Any, Final

from headrace import config as configuration
from headrace.clock import SystemClock
from headrace.config import Config
from headrace.ports.integration import Integration
from headrace.vocabulary import POOL_INTEGRATIONS
from headrace.worker.adapter import operations
from headrace.worker.service import run_worker_service
from headrace_integrations.github import GitHub
from headrace_integrations.secret_stores import EnvironmentStore, FileStore, SecretStores
from headrace_integrations.upstream import Upstream

GROUP: Final = "headrace.integrations"


class IntegrationsService:
    """The service `integrations`."""

    name = "integrations"

    def pools(self) -> Sequence[str]:
        """Give the pools it works for."""
        return (POOL_INTEGRATIONS,)

    def integrations(self) -> Sequence[Integration]:
        """Give its own integrations; installed plug-ins (`headrace.integrations`) come beside them."""
        return (GitHub(Upstream(SystemClock())),)

    def tools(self, _config: Config) -> Sequence[Any]:
        """Give the operations of its own integrations."""
        return [operation for integration in self.integrations() for operation in operations(integration)]

    async def run(self, config: Config) -> None:
        """Serve until cancelled, then drain."""
        stores = SecretStores.installed([EnvironmentStore(configuration.variable), FileStore(config.data_dir)])
        await run_worker_service(self.name, self.pools(), self.tools, config, plugins=GROUP, secrets=stores)


service = IntegrationsService()
