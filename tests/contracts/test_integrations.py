"""Our own integrations keep the contract that third parties run on theirs."""

from headrace.clock import SystemClock
from headrace.ports.integration import Integration
from headrace.testing.contracts import IntegrationContract
from headrace_integrations.github import GitHub
from headrace_integrations.upstream import Upstream


class TestGitHub(IntegrationContract):
    def integration(self) -> Integration:
        return GitHub(Upstream(SystemClock()))
