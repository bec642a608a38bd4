"""Memory twins of what ToolRunner uses, for tests: one's own tools can be performed without bus, api or owner."""

from pathlib import Path
from typing import Any, Final

from headrace import codec
from headrace.clock import Clock, SystemClock
from headrace.codec import Raw
from headrace.errors import ConflictError, NotFoundError
from headrace.events.base import BlobRef
from headrace.messages import ReportAttempt
from headrace.vocabulary import CLAIM_GRANT_S, WORKSPACE_DEFAULT
from headrace.wire import Line, WorkOrder
from headrace.worker.claims import Permission
from headrace.worker.registry import Registry
from headrace.worker.tool_runner import Secrets, ToolRunner

RUN_ID: Final = "run_0000000000e0080000000000r0"
ATTEMPT_ID: Final = "att_0000000000e0080000000000r0"


class MemoryBlobs:
    """Bodies in a dict."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}

    async def put(self, body: bytes, token: str) -> str:
        """Keep a body."""
        digest = codec.sha256(body)
        self.bodies[digest] = body
        return digest

    async def get(self, digest: str, token: str) -> bytes:
        """Give a body; raises NotFoundError."""
        if digest not in self.bodies:
            message = f"no body {digest}"
            raise NotFoundError(message)
        return self.bodies[digest]

    async def close(self) -> None:
        """Do nothing: there is no connection."""


class MemoryLines:
    """Lines in a list."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def add(self, line: Line) -> None:
        """Keep a line."""
        self.lines.append(line)

    @property
    def texts(self) -> list[str]:
        """Give the texts alone."""
        return [line.text for line in self.lines]


class MemoryClaimer:
    """Grants every claim, or none; `grant_s` is how long a grant is good for, in seconds."""

    def __init__(self, clock: Clock, *, granted: bool = True, grant_s: float = CLAIM_GRANT_S) -> None:
        self._clock, self._granted, self._grant_s = clock, granted, grant_s
        self.claimed: list[str] = []

    async def claim(self, order: WorkOrder) -> Permission:
        """Note the claim and answer it; raises ConflictError when claims are not granted."""
        self.claimed.append(order.attempt_id)
        if not self._granted:
            message = "the owner gave no permission to act: this twin never does"
            raise ConflictError(message, details={"retryable": False})
        return Permission(self._clock.now_ms() + int(self._grant_s * 1_000), self._clock.monotonic())


class Bench:
    """Performs tools as a worker would: `await Bench(root, tool).perform("name", {})` gives the report."""

    def __init__(
        self,
        root: Path,
        *tools: Any,
        granted: bool = True,
        grant_s: float = CLAIM_GRANT_S,
        secrets: Secrets | None = None,
    ) -> None:
        self.clock = SystemClock()
        self.registry = Registry(tools)
        self.blobs = MemoryBlobs()
        self.lines = MemoryLines()
        self.claimer = MemoryClaimer(self.clock, granted=granted, grant_s=grant_s)
        self.runner = ToolRunner(
            registry=self.registry,
            clock=self.clock,
            blobs=self.blobs,
            claimer=self.claimer,
            lines=self.lines,
            root=root,
            worker="wrk_bench",
            secrets=secrets,
        )

    def order(self, tool: str, arguments: Any = None, **fields: Any) -> WorkOrder:
        """Make an order as the run's owner would; `fields` replace what it says."""
        return order_for(self.registry, tool, arguments, **fields)

    async def perform(self, tool: str, arguments: Any = None, **fields: Any) -> ReportAttempt:
        """Perform an order for a tool."""
        return await self.runner.run(self.runner.begin(self.order(tool, arguments, **fields)))

    def output(self, report: ReportAttempt) -> Any:
        """Give a report's output, fetched when it is a blob."""
        blob: BlobRef | None = report.blob
        return codec.loads(report.output if blob is None else self.blobs.bodies[blob.digest])


def order_for(registry: Registry, tool: str, arguments: Any = None, **fields: Any) -> WorkOrder:
    """Make an order for a tool of a registry as the run's owner would; `fields` replace what it says."""
    record = registry.get(tool)
    written = codec.dumps({} if arguments is None else arguments)
    given: dict[str, Any] = {
        "attempt_id": ATTEMPT_ID,
        "run_id": RUN_ID,
        "step": "step",
        "attempt": 1,
        "workspace": WORKSPACE_DEFAULT,
        "kind": record.manifest.kind,
        "tool": tool,
        "pool": record.manifest.pool,
        "arguments": Raw(written),
        "arguments_digest": codec.sha256(written),
        "plan_digest": codec.sha256(b"plan"),
        "manifest_digest": record.digest,
        "effect": record.manifest.effect,
        "idempotency_key": "key",
        "timeout_s": 30.0,
    }
    return WorkOrder(**{**given, **fields})
