"""Where secrets are: the process's environment (`env:NAME`) and files (`file:PATH`); both are read-only.

References are resolved here, in the integrations service, just before an operation is performed, and nowhere else.
"""

import asyncio
import stat
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from headrace.errors import ForbiddenError, NotFoundError, StepError
from headrace.ports.secret_store import SecretStore

GROUP: Final = "headrace.secret_stores"
SECRET_BYTES_MAX: Final = 64 * 1024
OWN_PREFIX: Final = "HEADRACE_"


class EnvironmentStore:
    """Secrets in variables of this service's environment; headrace's own variables are no secrets of connections."""

    scheme = "env"

    def __init__(self, read: Callable[[str], str | None]) -> None:
        self._read = read

    async def resolve(self, reference: str) -> str:
        """Give a variable's value; raises NotFoundError, ForbiddenError for headrace's own."""
        if reference.upper().startswith(OWN_PREFIX):
            message = f"variables that begin with {OWN_PREFIX} are not for connections"
            raise ForbiddenError(message)
        secret = self._read(reference)
        if not secret:
            message = f"the integrations service has no variable {reference!r}, or it is empty"
            raise NotFoundError(message)
        return secret

    async def put(self, reference: str, secret: str) -> None:
        """Refuse: the environment is read-only."""
        raise _read_only(self.scheme)

    async def delete(self, reference: str) -> None:
        """Refuse: the environment is read-only."""
        raise _read_only(self.scheme)


class FileStore:
    """Secrets in files, such as those that Kubernetes mounts; headrace's own folder is no place for them."""

    scheme = "file"

    def __init__(self, own_folder: Path) -> None:
        self._own_folder = own_folder.resolve()

    async def resolve(self, reference: str) -> str:
        """Give a file's text without the newline at its end; raises NotFoundError, ForbiddenError."""
        return await asyncio.to_thread(self._read, Path(reference), reference)

    def _read(self, given: Path, reference: str) -> str:
        path = given.resolve()
        if path.is_relative_to(self._own_folder):
            message = "files of headrace itself are not for connections"
            raise ForbiddenError(message)
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise _no_file(reference)
            with path.open("rb") as file:
                body = file.read(SECRET_BYTES_MAX + 1)
            secret = body.decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as problem:
            raise _no_file(reference) from problem
        if not secret or len(body) > SECRET_BYTES_MAX:
            raise _no_file(reference)
        return secret

    async def put(self, reference: str, secret: str) -> None:
        """Refuse: files are mounted, not written."""
        raise _read_only(self.scheme)

    async def delete(self, reference: str) -> None:
        """Refuse: files are mounted, not written."""
        raise _read_only(self.scheme)


class SecretStores:
    """All stores by scheme; what ToolRunner resolves a connection's references with."""

    def __init__(self, stores: Iterable[SecretStore]) -> None:
        self._stores = {store.scheme: store for store in stores}

    @classmethod
    def installed(cls, own: Iterable[SecretStore]) -> "SecretStores":
        """Give our own stores and those of plug-ins; ours come last, so that none can take their place."""
        return cls([*(point.load()() for point in entry_points(group=GROUP)), *own])

    async def resolve(self, references: dict[str, str]) -> dict[str, str]:
        """Give the secrets of a connection by name; raises StepError (integration_auth_error) naming the reference."""
        secrets: dict[str, str] = {}
        for name, reference in references.items():
            scheme, separator, rest = reference.partition(":")
            store = self._stores.get(scheme) if separator else None
            if store is None:
                message = (
                    f"secret {name!r}: a reference begins with {', '.join(f'{each}:' for each in sorted(self._stores))}"
                )
                raise StepError(message, type="integration_auth_error")
            try:
                secrets[name] = await store.resolve(rest)
            except (NotFoundError, ForbiddenError) as problem:
                message = f"secret {name!r}: {problem.message}"
                raise StepError(message, type="integration_auth_error") from problem
        return secrets


def _no_file(reference: str) -> NotFoundError:
    message = f"there is no readable secret in the file {reference!r} (text, at most {SECRET_BYTES_MAX} bytes)"
    return NotFoundError(message)


def _read_only(scheme: str) -> ForbiddenError:
    message = f"secrets of the store {scheme!r} are kept outside of headrace"
    return ForbiddenError(message)
