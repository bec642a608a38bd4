"""What a log keeps beside events and rows, in memory: bodies by digest, and answers by key; a part of the log's twin."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import msgspec

from headrace.log import rows as projection
from headrace.log.checks import check_digest
from headrace.log.port import Batch, KeptAnswer
from headrace.vocabulary import IDEMPOTENCY_KEPT_S


class MemoryBodies(ABC):
    """What `BlobStore` says, and what `OwnerLog` and `KeyStore` say of answers, in memory."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, int, str], tuple[KeptAnswer, int]] = {}
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

    async def answers(self, keys: Sequence[tuple[str, int, str]]) -> dict[tuple[str, int, str], KeptAnswer]:
        """Read what was answered under keys, as far as kept."""
        return self._answered(keys)

    async def keep_answer(self, log: str, partition: int, answer: KeptAnswer) -> KeptAnswer | None:
        """Keep an answer unless another is kept; as KeyStore says."""
        place = log, partition, answer.key
        kept = self._answered([place]).get(place)
        to_come = kept is not None and not kept.answer and answer.answer
        if kept is not None and not (to_come and kept.request_digest == answer.request_digest):
            return kept
        self._answers[log, partition, projection.storable(answer.key)] = answer, self._up()
        return None

    def _answered(self, keys: Iterable[tuple[str, int, str]]) -> dict[tuple[str, int, str], KeptAnswer]:
        oldest = self._up() - int(IDEMPOTENCY_KEPT_S * 1000)
        found: dict[tuple[str, int, str], KeptAnswer] = {}
        for log, partition, key in keys:
            kept = self._answers.get((log, partition, projection.storable(key)))
            if kept is not None and kept[1] > oldest:
                found[log, partition, key] = msgspec.structs.replace(kept[0], key=key)
        return found

    def _repeated(self, batches: Sequence[Batch]) -> dict[tuple[str, int, str], KeptAnswer]:
        """Give what is kept under the keys of batches."""
        return self._answered((one.log, one.partition, answer.key) for one in batches for answer in one.answers)
