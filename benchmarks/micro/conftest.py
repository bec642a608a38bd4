"""Beside seconds, counts: how many bytecode instructions a part takes and what memory it asks for, which no neighbour changes."""

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import pytest

MONITOR: Final = sys.monitoring.PROFILER_ID
ONCE: Final = 1


class Counted(msgspec.Struct, frozen=True):
    """What one call took: instructions of Python's virtual machine, calls of functions (C ones too), bytes held at most."""

    name: str
    instructions: int
    calls: int
    peak_bytes: int


COUNTS: Final[list[Counted]] = []


class Measure:
    """Times a function as pytest-benchmark does, and counts what a call takes once it is warm."""

    def __init__(self, benchmark: Any, name: str) -> None:
        self._benchmark = benchmark
        self._name = name

    def __call__(self, function: Callable[..., Any], *given: Any) -> Any:
        """Measure calls with the same arguments; gives what the last one gave."""
        result = self._benchmark(function, *given)
        self._count(function, lambda: given)
        return result

    def pedantic(self, function: Callable[..., Any], setup: Callable[[], tuple[Any, Any]], rounds: int) -> Any:
        """Measure calls of which each needs arguments of its own, which `setup` makes."""
        result = self._benchmark.pedantic(function, setup=setup, rounds=rounds)
        self._count(function, lambda: setup()[0])
        return result

    def _count(self, function: Callable[..., Any], arguments: Callable[[], tuple[Any, ...]]) -> None:
        steps = self._events(sys.monitoring.events.INSTRUCTION, function, arguments())
        calls = self._events(sys.monitoring.events.CALL, function, arguments())
        given = arguments()
        tracemalloc.start(ONCE)
        kept = function(*given)  # held until it is counted
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        del kept
        COUNTS.append(Counted(self._name, steps, calls, peak))

    def _events(self, kind: int, function: Callable[..., Any], given: tuple[Any, ...]) -> int:
        counted = 0

        def one(*_: Any) -> None:
            nonlocal counted
            counted += 1

        sys.monitoring.use_tool_id(MONITOR, "headrace")
        try:
            sys.monitoring.register_callback(MONITOR, kind, one)
            sys.monitoring.set_events(MONITOR, kind)
            function(*given)
            sys.monitoring.set_events(MONITOR, sys.monitoring.events.NO_EVENTS)
        finally:
            sys.monitoring.register_callback(MONITOR, kind, None)
            sys.monitoring.free_tool_id(MONITOR)
        return counted


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Measure:
    """Give what measures and counts a part."""
    return Measure(benchmark, request.node.name.removeprefix("test_"))


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: Any) -> Iterator[None]:
    """Print the counts under the times."""
    yield
    if COUNTS:
        terminalreporter.section("counts of one call: the same on every machine for one version of Python")
        terminalreporter.write_line(f"{'':45}{'instructions':>14}{'calls':>8}{'peak, bytes':>14}")
        for one in COUNTS:
            terminalreporter.write_line(f"{one.name:45}{one.instructions:>14,}{one.calls:>8,}{one.peak_bytes:>14,}")
