"""ToolRunner: the one place where anything is performed.

What must hold before a tool is called, in this order: the arguments are those whose digest the order carries; the tool
is here, is the one the plan pins, and is not forbidden; the connection brings what it must; the input fits; the
precondition holds on the real thing; and for a write or notification the run's owner granted the claim. What comes
back is an object of the tool's output model or an error envelope: never a traceback, never a guess.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from pydantic import BaseModel

from headrace import codec, telemetry
from headrace.clock import Clock
from headrace.codec import NULL, Raw
from headrace.errors import ForbiddenError, StepError, UnauthorizedError, UnavailableError
from headrace.events.base import Evidence
from headrace.ids import instance
from headrace.messages import ReportAttempt
from headrace.vocabulary import ATTEMPT_TIMEOUT_S_MAX, INLINE_BYTES_MAX, Access, AttemptStatus, Effect
from headrace.wire import WorkOrder
from headrace.worker import preconditions, results
from headrace.worker.blobs import BlobClient
from headrace.worker.claims import Claimer, Permission
from headrace.worker.context import AttemptContext
from headrace.worker.evidence import with_bodies
from headrace.worker.file_root import FileRoot
from headrace.worker.holdings import Holdings
from headrace.worker.limits import Limits, OverTimeError
from headrace.worker.lines import LineSink
from headrace.worker.registry import Registry, ToolRecord
from headrace.worker.threads import Threads

ACTS: Final = frozenset({Effect.WRITE, Effect.NOTIFY})

Precheck = Callable[[Any, FileRoot], None]
"""Checks a step's precondition on the real thing; raises PreconditionFailedError."""

log = logging.getLogger(__name__)


class Secrets(Protocol):
    """Resolves the secret references of a connection; only the integrations service has one."""

    async def resolve(self, references: dict[str, str]) -> dict[str, str]:
        """Give the secrets by name; raises NotFoundError or StepError, never quoting one."""
        ...


class Performance:
    """One attempt while it is performed: its order, and its context once the tool is about to be called.

    `began_s` is monotonic seconds. `checked` says that the order's arguments were compared with their digest already;
    `after` is the step that it follows in a chain. `returned` says that the tool has done what it does.
    """

    __slots__ = ("after", "began_s", "called", "checked", "context", "order", "returned", "started_at")

    def __init__(self, order: WorkOrder, started_at: int, began_s: float, *, checked: bool, after: str = "") -> None:
        self.order = order
        self.started_at, self.began_s, self.checked, self.after = started_at, began_s, checked, after
        self.context: AttemptContext | None = None
        self.called = self.returned = False

    def cancel(self) -> None:
        """Let the tool know that it should stop."""
        if self.context is not None:
            self.context.cancel()


def brings_nothing(order: WorkOrder) -> bool:
    """Tell whether an order brings neither a connection nor evidence, as those of most steps."""
    return order.connection == NULL and order.evidence == NULL and order.evidence_blob is None


class ToolRunner:
    """Performs attempts and says what came of them. One serves a worker; any number of attempts at a time."""

    def __init__(
        self,
        *,
        registry: Registry,
        clock: Clock,
        blobs: BlobClient,
        claimer: Claimer,
        lines: LineSink,
        root: Path,
        worker: str,
        secrets: Secrets | None = None,
        holdings: Holdings | None = None,
        precheck: Precheck = preconditions.check,
    ) -> None:
        self.registry = registry
        self.threads = Threads()
        self.holdings = holdings or Holdings()
        self._clock, self._blobs, self._claimer, self._lines = clock, blobs, claimer, lines
        self._root, self._secrets = root, secrets
        self._blank = results.blank(worker)
        self._precheck = precheck
        self._limits = Limits()

    def begin(
        self, order: WorkOrder, now_ms: int | None = None, *, checked: bool = False, after: str = ""
    ) -> Performance:
        """Take up an attempt; `checked` if its arguments are known to be those of its digest, `after` in a chain."""
        started_at = self._clock.now_ms() if now_ms is None else now_ms
        return Performance(order, started_at, self._clock.monotonic(), checked=checked, after=after)

    async def run(self, performance: Performance) -> ReportAttempt:
        """Perform an attempt and give its report; raises nothing but CancelledError."""
        order = performance.order
        seconds = min(order.timeout_s, ATTEMPT_TIMEOUT_S_MAX)
        with telemetry.attempt_span(order.tool, order.kind, order.run_id, order.step, order.traceparent) as span:
            try:
                report = await self._limits.within(seconds, self._performed(performance))
            except OverTimeError:
                performance.cancel()
                report = self._over_time(performance)
            except (Exception, SystemExit) as problem:  # noqa: BLE001  (a tool may raise anything: it becomes an envelope)
                report = self.failed(performance, problem)
            if report.error is not None:
                telemetry.span_failed(span, report.error.type)
        telemetry.attempt_finished(order.tool, report.status, self._clock.monotonic() - performance.began_s)
        return report

    def ended(self, performance: Performance, reason: str, *, leaving: bool = False) -> ReportAttempt:
        """Give the report of an attempt that was stopped from outside: cancelled, or handed back by a leaving worker."""
        performance.cancel()
        problem = StepError(reason, type="worker_lost" if leaving else "cancelled")
        return self._report(performance, AttemptStatus.CANCELLED, problem)

    def failed(self, performance: Performance, problem: BaseException) -> ReportAttempt:
        """Give the report of an attempt that ended with an exception."""
        order = performance.order
        info = results.error_info(problem, order.tool, performance.context)
        # A traceback may quote arguments: it stays at debug, and off where secrets were in play.
        shown = problem if performance.context is None or not performance.context.scrubber else None
        log.info(
            "%s of %s failed: %s: %s%s", order.attempt_id, order.tool, info.type, info.message, results.place(problem)
        )
        log.debug("traceback of %s", order.attempt_id, exc_info=shown)
        return self._report(performance, AttemptStatus.FAILED, problem)

    async def _performed(self, performance: Performance) -> ReportAttempt:
        order = performance.order
        record = self._permitted(order)
        at_hand = performance.checked and order.arguments_blob is None
        arguments = codec.loads(order.arguments) if at_hand else await self._arguments(order)
        if brings_nothing(order) and record.check_connection is None:
            context = self._context(order, {}, {}, {})
        else:
            context = await self._given_context(order, record)
        performance.context = context
        given_input = results.checked_input(record.tool.input, arguments, order.tool)
        if order.precondition != NULL:  # the root is looked at anew each time: it may have been moved
            self._precheck(codec.loads(order.precondition), FileRoot(self._root))
        permission = await self._claimer.claim(order) if order.effect in ACTS else None
        output = await self._call(record, performance, context, given_input, permission)
        finished_at = self._clock.now_ms()
        found_at = context.found_at or Evidence(source=order.tool, fetched_at=finished_at)
        artifacts = await results.kept_artifacts(context, self._blobs, order.blob_token) if context.kept else ()
        body = codec.dumps(output)
        blob = None
        if len(body) > INLINE_BYTES_MAX:
            body, blob = b"null", await results.kept_body(body, self._blobs, order.blob_token)
        return results.report(
            self._blank,
            order,
            AttemptStatus.SUCCEEDED,
            performance.after,
            output=Raw(body),
            blob=blob,
            artifacts=artifacts,
            evidence=found_at,
            started_at=performance.started_at,
            finished_at=finished_at if not (artifacts or blob) else self._clock.now_ms(),
        )

    def _permitted(self, order: WorkOrder) -> ToolRecord:
        """Give the tool that the order names; raises when it is not here, not the pinned one, or forbidden."""
        record = self.registry.get(order.tool)
        if record.manifest.access == Access.FORBIDDEN:
            message = f"{order.tool} is forbidden"
            raise ForbiddenError(message, plugin=order.tool)
        if record.digest != order.manifest_digest:
            message = f"this worker has another {order.tool} than the plan pins; apply the workflow again, or update it"
            raise UnavailableError(message, details={"pinned": order.manifest_digest, "here": record.digest})
        if record.manifest.effect != order.effect or record.manifest.pool != order.pool:
            message = f"the order for {order.tool} says {order.effect} in {order.pool}, which the tool is not"
            raise ForbiddenError(message, plugin=order.tool)
        return record

    async def _arguments(self, order: WorkOrder) -> Any:
        """Give the arguments that the order was made for; raises UnauthorizedError when these are others."""
        body = bytes(order.arguments)
        if order.arguments_blob is not None:
            body = await self._blobs.get(order.arguments_blob, order.blob_token)
        if codec.sha256(body) != order.arguments_digest:
            message = f"the arguments of {order.tool} are not those that its order was made for"
            telemetry.message_refused("work", "arguments")
            raise UnauthorizedError(message)
        return codec.loads(body)

    def _context(
        self, order: WorkOrder, settings: dict[str, Any], secrets: dict[str, str], evidence: dict[str, Any]
    ) -> AttemptContext:
        return AttemptContext(
            order,
            root=self._root,
            clock=self._clock,
            lines=self._lines,
            settings=settings,
            secrets=secrets,
            evidence=evidence,
            progressed=self.holdings.progressed,
        )

    async def _given_context(self, order: WorkOrder, record: ToolRecord) -> AttemptContext:
        """Give the tool the connection and the evidence that its order brings; raises ForbiddenError, and as they say."""
        settings, secrets = await self._connection(order, record)
        evidence: dict[str, Any] = {}
        if order.evidence_blob is not None or order.evidence != NULL:
            body = bytes(order.evidence)
            if order.evidence_blob is not None:
                body = await self._blobs.get(order.evidence_blob, order.blob_token)
            evidence = await with_bodies(codec.loads(body) or {}, self._blobs, order.blob_token)
        return self._context(order, settings, secrets, evidence)

    async def _connection(self, order: WorkOrder, record: ToolRecord) -> tuple[dict[str, Any], dict[str, str]]:
        connection = (codec.loads(order.connection) or {}) if order.connection != NULL else {}
        references = dict(connection.get("secrets") or {})
        if references and self._secrets is None:
            message = "this service resolves no secrets: connections are the integrations service's alone"
            raise ForbiddenError(message, plugin=order.tool)
        secrets = await self._secrets.resolve(references) if self._secrets is not None and references else {}
        settings = dict(connection.get("settings") or {})
        if record.check_connection is not None:
            settings = record.check_connection(settings, secrets)
        return settings, secrets

    async def _call(
        self,
        record: ToolRecord,
        performance: Performance,
        context: AttemptContext,
        given_input: BaseModel,
        permission: Permission | None,
    ) -> dict[str, Any]:
        """Call the tool, and keep its record."""
        name = record.manifest.name
        record.started(performance.started_at)
        began_s = self._clock.monotonic()
        error: str | None = f"{name} was stopped"
        counted = True
        try:
            if permission is not None:
                permission.check(self._clock)
            performance.called = True
            if record.asynchronous:
                given = await record.perform(context, given_input)
            else:
                given = await self._in_thread(record, context, given_input)
            performance.returned = True
            output = results.checked_output(record.tool.output, given, name)
            error = None
        except asyncio.CancelledError:
            counted = False
            record.abandoned()
            raise
        except (Exception, SystemExit) as problem:
            error = results.error_info(problem, name, context).message
            raise
        finally:
            if counted:
                record.ended((self._clock.monotonic() - began_s) * 1_000, error=error)
        scrubbed: dict[str, Any] = context.scrubber.value(output)
        return scrubbed

    async def _in_thread(self, record: ToolRecord, context: AttemptContext, given_input: BaseModel) -> Any:
        """Call a `perform` that is not asynchronous, in a thread of its own."""
        name = f"tool {record.manifest.name} {context.attempt_id}"
        given: Any = await self.threads.call(lambda: record.perform(context, given_input), name)
        return await given if inspect.isawaitable(given) else given

    def _over_time(self, performance: Performance) -> ReportAttempt:
        order = performance.order
        name = instance(order.step, order.index)
        message = f"attempt timeout: step {name!r} was over its time: {order.tool} took more than {order.timeout_s:g} s"
        details = {"timeout": "attempt", "timeout_s": order.timeout_s, "step": order.step}
        problem = StepError(message, type="timeout", details=details)
        if performance.called:
            self.registry.get(order.tool).timed_out(message)
        return self._report(performance, AttemptStatus.TIMED_OUT, problem)

    def _report(self, performance: Performance, status: AttemptStatus, problem: BaseException) -> ReportAttempt:
        order = performance.order
        error = results.error_info(problem, order.tool, performance.context)
        if performance.returned and order.effect in ACTS and status == AttemptStatus.FAILED:  # its result is of no use
            error = msgspec.structs.replace(error, details={**error.details, "outcome": "happened"})
        return results.report(
            self._blank,
            order,
            status,
            performance.after,
            error=error,
            started_at=performance.started_at,
            finished_at=self._clock.now_ms(),
            retryable=results.retryable(error, problem),
            retry_after_s=results.retry_after_s(problem),
        )
