"""Reading the catalogue's projections from the shell: all rows of a question, plans by digest, tools by name."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from headrace import codec
from headrace.clock import Clock
from headrace.errors import NotFoundError
from headrace.events.catalogue import ToolManifest
from headrace.log.port import BlobStore, ReadLog
from headrace.plans import model

ROWS_PAGE: Final = 500
TOOLS_KEPT_S: Final = 2.0
"""How long the known tools are taken to be the same without word from the feed, which may be lost."""
PLANS_KEPT: Final = 512


class Store(ReadLog, BlobStore, Protocol):
    """The part of a log that preparers read."""


async def all_rows(log: ReadLog, table: str, where: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read every row that a question means, page by page, by id."""
    rows: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = await log.rows(table, where, order="id", descending=False, after=after, limit=ROWS_PAGE)
        rows.extend(page)
        if len(page) < ROWS_PAGE:
            return rows
        after = page[-1]["id"]


class Plans:
    """Plans by digest, read once: a digest never means another plan."""

    def __init__(self, log: BlobStore) -> None:
        self._log = log
        self._kept: OrderedDict[str, model.Plan] = OrderedDict()

    async def body(self, digest: str) -> bytes:
        """Give a plan's bytes; raises NotFoundError."""
        found = await self._log.get_blobs([digest])
        if digest not in found:
            message = f"there is no plan {digest}"
            raise NotFoundError(message)
        return found[digest]

    async def get(self, digest: str) -> model.Plan:
        """Give a plan; raises NotFoundError, also when the digest names a body that is no plan."""
        plan = self._kept.get(digest)
        if plan is None:
            try:
                plan = model.parse(await self.body(digest))
            except msgspec.DecodeError:
                message = f"{digest} is the digest of something that is no plan"
                raise NotFoundError(message) from None
            self._kept[digest] = plan
            if len(self._kept) > PLANS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(digest)
        return plan


class Known(msgspec.Struct, frozen=True):
    """The tools that are known at a moment: manifests by name, and one digest over all of theirs."""

    manifests: dict[str, ToolManifest]
    digest: str


class Tools:
    """The tools of a workspace, as the catalogue has them; kept until the feed tells of a new one, or a short while."""

    def __init__(self, log: ReadLog, clock: Clock) -> None:
        self._log, self._clock = log, clock
        self._kept: dict[str, tuple[float, Known]] = {}

    async def of(self, workspace: str) -> Known:
        """Give the tools that plans of a workspace may use."""
        now = self._clock.monotonic()
        at, known = self._kept.get(workspace, (now, None))
        if known is None or now - at >= TOOLS_KEPT_S:
            rows = await all_rows(self._log, "tools", {"workspace": workspace})
            manifests = {row["name"]: msgspec.convert(row["manifest"], ToolManifest) for row in rows}
            digest = codec.sha256(" ".join(sorted(row["digest"] for row in rows)).encode())
            known = Known(manifests, digest)
            self._kept[workspace] = now, known
        return known

    def forget(self) -> None:
        """Read again at the next question: a tool was announced."""
        self._kept.clear()
