"""What a tool may use while it is performed: the ToolContext of one attempt."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace.clock import Clock
from headrace.errors import StepError
from headrace.events.base import Evidence
from headrace.wire import Line, WorkOrder
from headrace.worker.lines import LineSink
from headrace.worker.scrub import NO_SECRETS, Scrubber

_numbering: Final = threading.Lock()
"""Held while a line is given its number: for an instant, so that one serves all attempts."""
LINE_CHARS_MAX: Final = 16_384
ARTIFACTS_MAX: Final = 1_000


class Kept(msgspec.Struct, frozen=True):
    """An output that the tool keeps: `body` is its content, when it has one."""

    type: str
    label: str
    value: Any
    body: bytes | None
    media_type: str


class AttemptContext:
    """The ToolContext of one attempt. `log`, `progress` and `artifact` may be called from any thread."""

    def __init__(
        self,
        order: WorkOrder,
        *,
        root: Path,
        clock: Clock,
        lines: LineSink,
        settings: dict[str, Any],
        secrets: dict[str, str],
        evidence: dict[str, Any],
        progressed: Callable[[str, float, str], None] | None = None,
    ) -> None:
        self.attempt_id = order.attempt_id
        self.run_id = order.run_id
        self.workspace = order.workspace
        self.idempotency_key = order.idempotency_key
        self.step, self.index, self.attempt = order.step, order.index, order.attempt
        self.root = root
        self.settings = settings
        self.secrets = secrets
        self.evidence = evidence
        self.kept: list[Kept] = []
        self.found_at: Evidence | None = None
        self.scrubber = Scrubber(secrets.values()) if secrets else NO_SECRETS
        self._order = order
        self._clock = clock
        self._lines = lines
        self._progressed = progressed
        self._sequence = 0
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Tell whether the attempt was asked to stop."""
        return self._cancelled

    def cancel(self) -> None:
        """Ask the tool to stop: for those that run in a thread and look."""
        self._cancelled = True

    def log(self, text: str, *, level: str = "info", stream: str = "log") -> None:
        """Print a line; a text of several lines becomes several."""
        for part in self.scrubber.text(str(text)).splitlines() or [""]:
            with _numbering:
                self._sequence += 1
                sequence = self._sequence
            self._lines.add(
                Line(
                    run_id=self.run_id,
                    attempt_id=self.attempt_id,
                    step=self._order.step,
                    index=self._order.index,
                    sequence=sequence,
                    at=self._clock.now_ms(),
                    text=part[:LINE_CHARS_MAX],
                    workspace=self.workspace,
                    stream=stream,
                    level=level,
                )
            )

    def progress(self, done: float, message: str = "") -> None:
        """Say how far it is, 0 to 1: a line of the stream `progress`, and part of the worker's next beat."""
        share = min(1.0, max(0.0, done))
        self.log(f"{round(share * 100)}% {message}".rstrip(), stream="progress")
        if self._progressed is not None:
            self._progressed(self.attempt_id, share, self.scrubber.text(message))

    def artifact(self, type: str, label: str, value: Any, *, body: bytes | None = None, media_type: str = "") -> None:
        """Keep an output; raises StepError over ARTIFACTS_MAX."""
        if len(self.kept) >= ARTIFACTS_MAX:
            message = f"an attempt may keep {ARTIFACTS_MAX} artifacts"
            raise StepError(message, type="validation_error")
        self.kept.append(Kept(type, label, value, body, media_type or "text/plain"))

    def source(self, name: str, *, complete: bool = True, calls: int = 1, next_cursor: str | None = None) -> None:
        """Say where the result came from, now."""
        self.found_at = Evidence(
            source=self.scrubber.text(name),
            fetched_at=self._clock.now_ms(),
            complete=complete,
            calls=calls,
            next_cursor=next_cursor,
        )
