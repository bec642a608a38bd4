"""Folding streams outside an owner: for what works on the whole log, such as a rebuild or the adoption of a copy."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from headrace.decider import AnyRow, Library, MissingError, Room
from headrace.errors import NotFoundError
from headrace.events import registry
from headrace.log.port import BlobStore, History
from headrace.service import installed, load

LIBRARY_BYTES_MAX: Final = 128 * 1024 * 1024
NO_FINGERPRINT: Final = ""
"""Matches no snapshot: what is folded with it begins at the first event."""
AnyRoom = Room[Any, Any, Any]
MakeRooms = Callable[[Library], Sequence[AnyRoom]]


def installed_rooms(library: Library) -> list[AnyRoom]:
    """Give the rooms of all installed services that own logs."""
    services = [load(name) for name in sorted(installed())]
    return [room for service in services if hasattr(service, "rooms") for room in service.rooms(library)]


class Folder:
    """A library that is filled from a store's blobs when a room misses one, and what folds with it."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._bodies: dict[str, bytes] = {}
        self._bytes = 0

    def body(self, digest: str) -> bytes:
        """Give the bytes of a digest; raises MissingError."""
        if digest not in self._bodies:
            raise MissingError((digest,))
        return self._bodies[digest]

    async def state(self, room: AnyRoom, stream_id: str, history: History) -> Any:
        """Fold a whole history, which has events.

        Raises DatabaseVersionError for an event that this code does not know, NotFoundError for a blob that is gone.
        """
        state = room.initial(stream_id, history.events[0].workspace)
        for recorded in history.events:
            state = await self.done(partial(room.evolve, state, registry.read(recorded), recorded.at))
        return state

    async def rows(self, room: AnyRoom, state: Any) -> list[AnyRow]:
        """Give all projection rows of a state; raises NotFoundError for a blob that is gone."""
        return await self.done(lambda: list(room.rows(state, None)))

    async def done[Result](self, call: Callable[[], Result]) -> Result:
        """Call into a room until every body it misses is there; raises NotFoundError for one that is gone."""
        while True:
            try:
                return call()
            except MissingError as missing:
                await self._fetch(missing.digests)

    async def _fetch(self, digests: Sequence[str]) -> None:
        if self._bytes > LIBRARY_BYTES_MAX:
            self._bodies.clear()
            self._bytes = 0
        found = await self._store.get_blobs(digests)
        for digest in digests:
            if digest not in found:
                message = f"the log has no blob {digest}, which an event of it names"
                raise NotFoundError(message)
        self._bodies |= found
        self._bytes += sum(map(len, found.values()))
