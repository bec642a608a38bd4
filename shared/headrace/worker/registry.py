"""The tools of a worker, and how each is doing.

A plug-in that fails to load is listed with its reason, and the rest goes on. States are VOCABULARY's: `loaded` until
first used, `running`, `initialized` after a success, `failed` after an error, `unavailable` when it did not load.
"""

import inspect
import logging
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, Final

from headrace.codec import NULL, Raw, raw
from headrace.errors import HeadraceError, ToolNotFoundError
from headrace.events.catalogue import ToolManifest
from headrace.plans.model import manifest_digest
from headrace.ports.tool import Tool
from headrace.worker import adapter
from headrace.worker.manifests import describe, manifest_of

GROUP: Final = "headrace.tools"
AVERAGE_OVER_CALLS: Final = 10
MS_DIGITS: Final = 3
REASON_CHARS_MAX: Final = 400
"""What beats say of an error: of all tools together it must fit into one message; the run's record says it whole."""

log = logging.getLogger(__name__)


class ToolRecord:
    """One tool: its manifest and what became of its calls. Times are milliseconds."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self.manifest: ToolManifest = manifest_of(tool)
        self.digest = manifest_digest(self.manifest)
        self._about = describe(self.manifest)
        self.perform: Callable[..., Any] = tool.perform
        self.asynchronous = inspect.iscoroutinefunction(self.perform)
        self.check_connection: Callable[..., dict[str, Any]] | None = getattr(tool, "check_connection", None)
        self.success_count = 0
        self.error_count = 0
        self.reason = ""
        self.last_used: int | None = None
        self._settled_state = "loaded"
        self._under_way = 0
        self._durations_ms: tuple[float, ...] = ()  # replaced whole: beats are made on another thread
        self._told: tuple[object, Raw] = None, NULL  # replaced whole, too

    @property
    def state(self) -> str:
        """Give the plug-in state of VOCABULARY."""
        return "running" if self._under_way else self._settled_state

    def started(self, now_ms: int) -> None:
        """Note that a call began."""
        self._under_way += 1
        self.last_used = now_ms

    def ended(self, duration_ms: float, *, error: str | None) -> None:
        """Note how a call ended: `error` is its message, None a success."""
        self._under_way -= 1
        self._durations_ms = (*self._durations_ms[1 - AVERAGE_OVER_CALLS :], duration_ms)
        if error is None:
            self.success_count += 1
            self._settled_state, self.reason = "initialized", ""
        else:
            self.error_count += 1
            self._settled_state, self.reason = "failed", error

    def abandoned(self) -> None:
        """Note that a call was cancelled: neither a success nor an error."""
        self._under_way -= 1

    def timed_out(self, reason: str) -> None:
        """Note that the call abandoned last was over its time: an error after all."""
        self.error_count += 1
        self._settled_state, self.reason = "failed", reason

    def told(self) -> Raw:
        """Give what `show` gives as beats carry it: written anew when it has changed."""
        now = self.state, self.reason, self.success_count, self.error_count, self._durations_ms, self.last_used
        known, text = self._told
        if known != now:
            text = raw(self.show())
            self._told = now, text
        return text

    def show(self) -> dict[str, Any]:
        """Give what beats carry and `/api/tools` shows."""
        durations = self._durations_ms
        return {
            **self._about,
            "state": self.state,
            "reason": self.reason[:REASON_CHARS_MAX],
            "success_count": self.success_count,
            "error_count": self.error_count,
            "last_execution_time_ms": round(durations[-1], MS_DIGITS) if durations else None,
            "avg_execution_time_ms": round(sum(durations) / len(durations), MS_DIGITS) if durations else None,
            "last_used": self.last_used,
        }


class Registry:
    """A worker's tools by name."""

    def __init__(self, tools: Iterable[Any] = ()) -> None:
        self._records: dict[str, ToolRecord] = {}
        self._unavailable: dict[str, str] = {}
        for tool in tools:
            self.add(tool)

    def add(self, plugin: Any) -> None:
        """Take in a tool, or anything that can be adapted to one; what fails is listed as unavailable."""
        name = str(getattr(plugin, "name", None) or getattr(plugin, "__name__", None) or type(plugin).__name__)
        try:
            record = ToolRecord(adapter.adapt(plugin))
        except Exception as problem:  # noqa: BLE001  (a plug-in may raise anything; the rest goes on)
            self.refuse(name, problem)
            return
        if record.manifest.name in self._records:
            self.refuse(name, ToolNotFoundError(f"a tool named {record.manifest.name!r} is there already"))
            return
        self._records[record.manifest.name] = record

    def load(self, group: str = GROUP) -> None:
        """Take in the installed plug-ins of an entry point group; each entry gives a tool, or a callable that does."""
        for point in entry_points(group=group):
            try:
                for plugin in adapter.offered(point.load()):
                    self.add(plugin)
            except Exception as problem:  # noqa: BLE001  (a plug-in may raise anything; the rest goes on)
                self.refuse(point.name, problem)

    def refuse(self, name: str, problem: Exception) -> None:
        """List a plug-in that did not load."""
        reason = problem.message if isinstance(problem, HeadraceError) else f"{type(problem).__name__}: {problem}"
        log.warning("plug-in %s did not load: %s", name, reason, exc_info=problem)
        self._unavailable[name] = reason

    def get(self, name: str) -> ToolRecord:
        """Give a tool's record; raises ToolNotFoundError that lists what there is."""
        record = self._records.get(name)
        if record is None:
            reason = self._unavailable.get(name)
            known = ", ".join(sorted(self._records)) or "none"
            message = f"this worker has no tool {name!r}" + (f" ({reason})" if reason else f"; it has: {known}")
            raise ToolNotFoundError(message, details={"tool": name})
        return record

    def records(self) -> list[ToolRecord]:
        """Give all records, by name."""
        return [self._records[name] for name in sorted(self._records)]

    def pools(self) -> tuple[str, ...]:
        """Give the pools that the tools belong to."""
        return tuple(sorted({record.manifest.pool for record in self._records.values()}))

    def told(self) -> tuple[Raw, ...]:
        """Give what `show` gives as beats carry it."""
        return (*[record.told() for record in self.records()], *map(raw, self._missing()))

    def show(self) -> tuple[dict[str, Any], ...]:
        """Give the state of every tool and of every plug-in that did not load."""
        return (*(record.show() for record in self.records()), *self._missing())

    def _missing(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "state": "unavailable",
                "reason": reason[:REASON_CHARS_MAX],
                "success_count": 0,
                "error_count": 0,
            }
            for name, reason in sorted(self._unavailable.items())
            if name not in self._records
        ]
