"""Content by digest for deciders: a cache that the host fills when a decision finds something missing."""

from collections.abc import Mapping
from typing import Final

from headrace.decider import MissingError
from headrace.host.cache import WeightedCache

LIBRARY_BODIES_MAX: Final = 4_096
LIBRARY_BYTES_MAX: Final = 128 * 1024 * 1024


class CachedLibrary:
    """A `Library` over what was fetched lately. Made first, given to the rooms and then to their host."""

    def __init__(self, *, bodies_max: int = LIBRARY_BODIES_MAX, bytes_max: int = LIBRARY_BYTES_MAX) -> None:
        self._bodies = WeightedCache[str, bytes](entries_max=bodies_max, weight_max=bytes_max)

    def body(self, digest: str) -> bytes:
        """Give the bytes that a digest names; raises MissingError when they must be fetched first."""
        found = self._bodies.get(digest)
        if found is None:
            raise MissingError((digest,))
        return found

    def add(self, bodies: Mapping[str, bytes]) -> None:
        """Keep bodies, all of them until the next `trim`: a decision may need many at once."""
        for digest, body in bodies.items():
            self._bodies.put(digest, body, len(body))

    def trim(self) -> None:
        """Let the oldest go beyond the bounds."""
        if self._bodies.full:
            self._bodies.trim(lambda _body: True)
