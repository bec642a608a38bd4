"""A service: its name, the rooms it owns, the tools it performs, and how it runs; found by entry points."""

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, Final, Protocol

from headrace.config import Config
from headrace.errors import NotFoundError

GROUP: Final = "headrace.services"


class Service(Protocol):
    """What `headrace serve NAME` runs. The entry point names an instance of it."""

    name: str

    async def run(self, config: Config) -> None:
        """Serve until cancelled, then drain. Raises HeadraceError for what an operator can mend."""
        ...


class OwnerService(Service, Protocol):
    """A service that owns logs: the in-process engine of the test kit runs its rooms without the service."""

    def rooms(self, library: Any) -> Sequence[Any]:
        """Give the rooms, with the library they read plans and blobs from."""
        ...

    def preparers(self, log: Any, *, clock: Any = None, presence: Any = None) -> dict[str, Any]:
        """Give the preparer of each log, by its name; `presence` is the one that the owner host listens with."""
        ...

    def companions(self, log: Any, bus: Any, keys: Any, clock: Any, preparers: dict[str, Any]) -> Sequence[Any]:
        """Give what runs beside the owner host, each with an endless `run()`; often nothing."""
        ...


class WorkerService(Service, Protocol):
    """A service that performs attempts."""

    def pools(self) -> Sequence[str]:
        """Give the pools it works for."""
        ...

    def tools(self, config: Config) -> Sequence[Any]:
        """Give the tools it performs."""
        ...


def installed() -> dict[str, str]:
    """Give the installed services: name and the entry point that loads each."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


def load(name: str) -> Any:
    """Load an installed service; raises NotFoundError that lists the installed ones."""
    for point in entry_points(group=GROUP):
        if point.name == name:
            return point.load()
    message = f"no service {name!r} is installed; installed are: {', '.join(sorted(installed())) or 'none'}"
    raise NotFoundError(message)
