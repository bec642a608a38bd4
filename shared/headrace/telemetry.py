"""Metrics and spans: the one place that names them.

Metrics are prometheus_client's (its exemplars tell the trace; OpenTelemetry's exporter has none), on a registry of our
own. Labels hold only names of a small, known set: no ids, subjects or free text. Spans are OpenTelemetry's; without an
SDK they cost next to nothing. A run may last for days, so each attempt is a trace of its own, linked to the span that
scheduled it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, lru_cache
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.samples import Exemplar

REGISTRY: Final = CollectorRegistry()
TRACEPARENT: Final = "traceparent"
FAST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SLOW_S: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1_800, 7_200, 86_400)
LOOK_EVERY: Final = 200
"""How many measurements are made between two looks whether tracing was set up meanwhile."""
SIZES: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500)


class _Tally:
    """A number that one thread adds to: the event loop's, which makes all measurements that are frequent.

    prometheus_client takes a lock for each of its own.
    """

    __slots__ = ("exemplar", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.exemplar: Exemplar | None = None

    def inc(self, amount: float) -> None:
        self.value += amount

    def get(self) -> float:
        return self.value

    def set_exemplar(self, exemplar: Exemplar) -> None:
        self.exemplar = exemplar

    def get_exemplar(self) -> Exemplar | None:
        return self.exemplar


class _QuickHistogram(Histogram):
    """A histogram of tallies, whose bucket is found by bisection."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._sum, self._buckets = _Tally(), [_Tally() for _ in self._upper_bounds]

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        if exemplar is not None:
            super().observe(amount, exemplar)
            return
        self._sum.value += amount
        self._buckets[bisect_left(self._upper_bounds, amount)].value += 1


class _QuickCounter(Counter):
    """A counter that is a tally."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._value = _Tally()

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        if exemplar is not None or amount < 0:
            super().inc(amount, exemplar)
            return
        self._value.value += amount


_runs = _QuickHistogram(
    "headrace_run_duration_seconds", "From created to ended.", ["status"], registry=REGISTRY, buckets=SLOW_S
)
_steps = _QuickHistogram(
    "headrace_step_duration_seconds", "From begun to ended.", ["kind", "status"], registry=REGISTRY, buckets=SLOW_S
)
_attempts = _QuickHistogram(
    "headrace_attempt_duration_seconds", "As the worker saw it.", ["tool", "status"], registry=REGISTRY, buckets=SLOW_S
)
_starts = _QuickHistogram(
    "headrace_schedule_to_start_seconds", "From ready to begun.", ["pool"], registry=REGISTRY, buckets=SLOW_S
)
_runnable = Gauge("headrace_steps_runnable", "Attempts that wait for a worker.", ["pool"], registry=REGISTRY)
_lost = Counter("headrace_attempts_lost_total", "Attempts whose worker died.", ["pool"], registry=REGISTRY)
_partitions = Gauge("headrace_partitions_held", "Partitions that this process owns.", ["log"], registry=REGISTRY)
_tenures = Counter("headrace_leases_lost_total", "Tenures that ended against our will.", ["log"], registry=REGISTRY)
_appends = _QuickHistogram(
    "headrace_append_duration_seconds", "One append of all partitions.", registry=REGISTRY, buckets=FAST_S
)
_batches = _QuickHistogram("headrace_append_events", "Events in one append.", registry=REGISTRY, buckets=SIZES)
_conflicts = Counter("headrace_append_conflicts_total", "Batches that the fence refused.", ["log"], registry=REGISTRY)
_commands = _QuickCounter("headrace_commands_total", "Commands decided.", ["log", "outcome"], registry=REGISTRY)
_refused = Counter(
    "headrace_messages_refused_total", "Messages not acted upon: a bad seal, no JSON.", ["kind", "reason"],
    registry=REGISTRY,
)  # fmt: skip
_parked = Counter("headrace_parked_events_total", "Messages kept aside as poison.", ["log"], registry=REGISTRY)
_redelivered = Counter("headrace_redeliveries_total", "Messages that came again.", ["kind"], registry=REGISTRY)
_connected = Gauge("headrace_bus_connected", "1 while NATS answers.", registry=REGISTRY)
_declared = Counter("headrace_bus_ensure_total", "Streams made on NATS, at the start or anew.", registry=REGISTRY)
_refusing = Gauge(
    "headrace_bus_streams_refusing", "Streams on NATS that take no writes until it is restarted.", registry=REGISTRY
)
_dropped = Counter("headrace_bus_dropped_total", "Messages dropped while NATS was away.", registry=REGISTRY)
_workers = Gauge("headrace_workers_alive", "Workers whose beats are heard.", registry=REGISTRY)
_http = _QuickHistogram(
    "headrace_http_request_duration_seconds", "Answers of the api.", ["method", "route", "status"],
    registry=REGISTRY, buckets=FAST_S,
)  # fmt: skip

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

# prometheus_client checks and looks labels up at every use, under a lock: here once for each set of them
_runs_of = lru_cache(_runs.labels)
_steps_of = lru_cache(maxsize=1_024)(_steps.labels)
_attempts_of = lru_cache(maxsize=1_024)(_attempts.labels)
_starts_of = lru_cache(_starts.labels)
_commands_of = lru_cache(_commands.labels)
_http_of = lru_cache(maxsize=1_024)(_http.labels)

_tracer = trace.get_tracer("headrace")
_propagator = TraceContextTextMapPropagator()
_UNTRACED: Final = nullcontext(trace.INVALID_SPAN)


def render(accept: str) -> tuple[bytes, str]:
    """Give all metrics in the format that a scraper accepts, and its content type."""
    encode, content_type = choose_encoder(accept)
    return encode(REGISTRY), content_type


def run_finished(status: str, seconds: float) -> None:
    """Count a run that ended."""
    _runs_of(status).observe(seconds, exemplar=_exemplar())


def step_finished(kind: str, status: str, seconds: float) -> None:
    """Count a step that ended."""
    _steps_of(kind, status).observe(seconds, exemplar=_exemplar())


def attempt_finished(tool: str, status: str, seconds: float) -> None:
    """Count an attempt that this worker performed."""
    _attempts_of(tool, status).observe(seconds, exemplar=_exemplar())


def attempt_started(pool: str, waited_s: float) -> None:
    """Note how long an attempt waited for a worker."""
    _starts_of(pool).observe(waited_s)


def attempt_lost(pool: str) -> None:
    """Count an attempt whose worker died."""
    _lost.labels(pool).inc()


def steps_runnable(pool: str, count: int) -> None:
    """Tell how many attempts of a pool wait."""
    _runnable.labels(pool).set(count)


def partitions_held(log: str, count: int) -> None:
    """Tell how many partitions of a log this process owns.

    From then on what may go wrong with the log is counted from 0: of a counter that comes with its first 1, Prometheus
    sees no increase.
    """
    _held(log).set(count)


@cache
def _held(log: str) -> Gauge:
    for counter in (_parked, _tenures, _conflicts):
        counter.labels(log)
    return _partitions.labels(log)


def lease_lost(log: str) -> None:
    """Count a tenure that ended against our will."""
    _tenures.labels(log).inc()


def appended(events: int, seconds: float) -> None:
    """Count one append."""
    _appends.observe(seconds)
    _batches.observe(events)


def append_refused(log: str) -> None:
    """Count a batch that the fence refused."""
    _conflicts.labels(log).inc()


def command_decided(log: str, outcome: str, number: int = 1) -> None:
    """Count commands; `outcome` is `accepted`, `repeated` or the error's type."""
    _commands_of(log, outcome).inc(number)


def message_refused(kind: str, reason: str) -> None:
    """Count a message that was not acted upon."""
    _refused.labels(kind, reason).inc()


def message_parked(log: str) -> None:
    """Count a message that was kept aside."""
    _parked.labels(log).inc()


def message_redelivered(kind: str) -> None:
    """Count a message that has to come again."""
    _redelivered.labels(kind).inc()


def bus_connected(*, connected: bool) -> None:
    """Tell whether NATS answers."""
    _connected.set(1 if connected else 0)


def bus_declared() -> None:
    """Count a stream that was made."""
    _declared.inc()


def bus_refusing(count: int) -> None:
    """Tell how many streams take no writes and cannot be mended from here."""
    _refusing.set(count)


def bus_dropped(count: int = 1) -> None:
    """Count messages that were dropped because NATS was away."""
    _dropped.inc(count)


def workers_alive(count: Callable[[], int]) -> None:
    """Say how to count the workers that are heard: it is asked at each scrape."""
    _workers.set_function(count)


def http_answered(method: str, route: str, status: int, seconds: float) -> None:
    """Count an answer of the api; `route` is the template of the path."""
    _http_of(method, route, str(status)).observe(seconds, exemplar=_exemplar())


def traceparent() -> str | None:
    """Give the W3C traceparent of the span we are in, to be carried along; None when nothing is traced."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(TRACEPARENT)


def attempt_span(
    tool: str, kind: str, run_id: str, step: str, scheduled_by: str | None = None
) -> AbstractContextManager[Span]:
    """Trace an attempt: a trace of its own, linked to the span that scheduled it. Where nothing traces, it costs nothing."""
    return _attempt_span(tool, kind, run_id, step, scheduled_by) if _traced() else _UNTRACED


@contextmanager
def _attempt_span(tool: str, kind: str, run_id: str, step: str, scheduled_by: str | None) -> Iterator[Span]:
    links = []
    if scheduled_by:
        scheduling = trace.get_current_span(_propagator.extract({TRACEPARENT: scheduled_by})).get_span_context()
        if scheduling.is_valid:
            links.append(Link(scheduling))
    with _tracer.start_as_current_span(
        f"execute_tool {tool}",
        kind=SpanKind.INTERNAL,
        links=links,
        attributes={
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool,
            "headrace.step.kind": kind,
            "headrace.run.id": run_id,
            "headrace.step.id": step,
        },
    ) as span:
        yield span


def span_failed(span: Span, reason: str) -> None:
    """Mark a span as failed, with the type of the error."""
    span.set_status(Status(StatusCode.ERROR, reason))


def _exemplar() -> dict[str, str] | None:
    """Give the trace that a measurement belongs to, when it is sampled."""
    if not _traced():
        return None
    context = trace.get_current_span().get_span_context()
    if not (context.is_valid and context.trace_flags.sampled):
        return None
    return {"trace_id": trace.format_trace_id(context.trace_id)}


class _Tracing:
    """Whether somebody set up tracing in this process.

    Looked up now and then, since it takes some µs (it reads the environment each time); once set up, it stays.
    """

    def __init__(self) -> None:
        self._on = False
        self._until_look = 0

    def __call__(self) -> bool:
        """Tell it."""
        if not self._on:
            self._until_look -= 1
            if self._until_look < 0:
                self._until_look = LOOK_EVERY
                self._on = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        return self._on


_traced = _Tracing()
