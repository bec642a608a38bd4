"""The SecretStore port: resolves references to secrets, in the integrations service and nowhere else.

A reference is `scheme:rest`, such as `env:GITHUB_TOKEN` or `file:/run/secrets/github`. Stores are found by the entry
point group `headrace.secret_stores`, by scheme.
"""

from typing import Protocol, runtime_checkable


@runtime_checkable
class SecretStore(Protocol):
    """A place where secrets are."""

    scheme: str

    async def resolve(self, reference: str) -> str:
        """Give the secret that `reference` (without its scheme) names; raises NotFoundError, never quoting it."""
        ...

    async def put(self, reference: str, secret: str) -> None:
        """Keep a secret; raises ForbiddenError where the store is read-only."""
        ...

    async def delete(self, reference: str) -> None:
        """Forget a secret; raises ForbiddenError where the store is read-only."""
        ...
