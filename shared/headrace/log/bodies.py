"""Bodies by digest in memory, and whose they are: a part of the log's twin."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from headrace.log import rows as projection
from headrace.log.checks import check_digest


class MemoryBodies(ABC):
    """What `BlobStore` says, in memory."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._blob_workspaces: set[tuple[str, str]] = set()

    @abstractmethod
    def _up(self) -> int:
        """Raise UnavailableError while the log is down, else give the time (ms)."""

    async def put_blob(self, digest: str, body: bytes, workspace: str | None = None) -> None:
        """Keep a body; raises ValidationError when the digest is not the body's."""
        self._up()
        check_digest(digest, body)
        self._blobs[digest] = bytes(body)
        if workspace is not None:
            self._blob_workspaces.add((projection.storable(workspace), digest))

    async def get_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Give the bodies that are known."""
        self._up()
        return {digest: self._blobs[digest] for digest in digests if digest in self._blobs}

    async def blobs_of(self, workspace: str, digests: Sequence[str]) -> set[str]:
        """Tell which of these bodies were put as the workspace's own."""
        self._up()
        return {digest for digest in digests if (projection.storable(workspace), digest) in self._blob_workspaces}
