"""One scheduler for many simulated processes: an event loop whose order and time come from a seed alone.

Every callback belongs to a process (a context variable says which; what belongs to none is the world's). Within a
process callbacks run in the order in which they were scheduled, as asyncio promises; which process goes on next is
drawn. A paused process keeps what it has to do while time goes on; a killed one never does anything again.
"""

import asyncio
import contextvars
import heapq
from asyncio import tasks as listing
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final, Never

import msgspec

from headrace.errors import HeadraceError
from headrace.testing.simulation.chance import Chance

CALLBACKS_MAX: Final = 600_000
"""Callbacks of one schedule; more means that something spins."""
STALE_TIMERS_MAX: Final = 512
UNWIND_ROUNDS_MAX: Final = 50

_process: contextvars.ContextVar["Process"] = contextvars.ContextVar("simulated process")


type Entry = tuple[Callable[..., object], tuple[Any, ...], contextvars.Context | None, Call | None]
"""A callback that a process is to run: with what, in which context (None: in no particular one), by which handle
(None: nobody can cancel it)."""


class RunawayError(HeadraceError):
    """The schedule took more callbacks than any honest one: something spins."""


class Call(msgspec.Struct, eq=False):
    """A callback to come: what asyncio calls a handle, without what only debugging needs."""

    loop: "SimLoop"
    callback: Callable[..., object]
    args: tuple[Any, ...]
    context: contextvars.Context | None
    dead: bool = False
    timer: float = 0.0

    def cancel(self) -> None:
        """Let it never happen."""
        if not self.dead:
            self.dead = True
            if self.timer:
                self.loop.note_stale()

    def cancelled(self) -> bool:
        """Tell whether it will never happen."""
        return self.dead

    def when(self) -> float:
        """Give the time at which it happens."""
        return self.timer


class Anonymous(Call):
    """The handle of everything that a future or a task calls: they never cancel that."""

    def cancel(self) -> None:
        """Refuse."""
        message = "what is called in a context of its own cannot be cancelled here"
        raise RuntimeError(message)


class Process:
    """A process of the simulated world: what it has to do now, and whether it may."""

    __slots__ = ("context", "held", "loop", "name", "ready", "root")

    def __init__(self, loop: "SimLoop", name: str) -> None:
        self.loop = loop
        self.name = name
        self.ready: deque[Entry] = deque()
        self.held = False
        self.root: asyncio.Task[None] | None = None
        self.context = contextvars.copy_context()
        self.context.run(_process.set, self)

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Let the process do something as soon as it comes to it: how a message or an answer reaches it."""
        if not self.ready and not self.held:
            self.loop.runnable.append(self)
        self.ready.append((callback, args, self.context, None))

    def post_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Call:
        """Let the process do something after so many virtual seconds, as soon as it comes to it."""
        call = Call(self.loop, callback, args, self.context)
        self.loop.after(delay, self, call)
        return call

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin the process."""
        self.root = self.loop.begin(work, name=self.name, context=self.context.copy())

    def pause(self) -> None:
        """Stop it where it is, as SIGSTOP does."""
        if not self.held:
            self.held = True
            if self.ready:
                self.loop.runnable.remove(self)

    def resume(self) -> None:
        """Let it go on, with all that came meanwhile."""
        if self.held:
            self.held = False
            if self.ready:
                self.loop.runnable.append(self)


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address, so that a schedule repeats in every process."""

    number = 0
    """The tasks of its loop are numbered as they begin."""

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


@contextmanager
def unlisted() -> Iterator[None]:
    """Let asyncio not list tasks for a while: those of other schedules have the same hashes, and nobody asks for them."""
    listed: Any = listing._scheduled_tasks  # type: ignore[attr-defined]  # noqa: SLF001  (documented for other tasks)
    listed.add = _nowhere
    try:
        yield
    finally:
        del listed.add


def _nowhere(_task: object) -> None:
    """Keep nothing."""


class SimLoop(asyncio.BaseEventLoop):
    """The event loop of one schedule. It opens no socket, starts no thread and reads no clock."""

    def __init__(self, chance: Chance) -> None:
        super().__init__()
        self.runnable: list[Process] = []
        self.tasks: list[SimTask] = []
        """All that ever began."""
        self.callbacks = 0
        self.problems: list[str] = []
        """What callbacks and tasks raised that nobody caught: each is a defect."""
        self._draw = chance.random
        self.now = 0.0
        """The virtual time, in seconds since the schedule began."""
        self._timers: list[tuple[float, int, Process, Call]] = []
        self._timers_made = 0
        self._stale = 0
        self._stopped = False
        self._draining = False
        self._limit = CALLBACKS_MAX
        self.world = Process(self, "world")
        self._anonymous = Anonymous(self, self.stop, (), None)
        self.set_exception_handler(self._note)

    # what asyncio calls

    get_debug = bool  # it gives False: each future and each handle asks
    """Tell whether asyncio is to watch itself: it never is."""

    def time(self) -> float:
        """Give the virtual time, in seconds since the schedule began."""
        return self.now

    def call_soon(  # type: ignore[override]  # a leaner handle, which answers to the same calls
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Call:
        """Let a callback run in its process's turn."""
        handle: Call | None = None  # futures and tasks, who name a context, do not cancel what they call
        if context is None:
            context = contextvars.copy_context()
            handle = Call(self, callback, args, context)
        process = context.get(_process) or self.world
        ready = process.ready
        if not ready and not process.held:
            self.runnable.append(process)
        ready.append((callback, args, context, handle))
        return handle or self._anonymous

    def call_soon_threadsafe(  # type: ignore[override]  # as above
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Call:
        """As `call_soon`: there are no threads here."""
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Call:
        """Let a callback run after so many virtual seconds."""
        if context is None:
            context = contextvars.copy_context()
        when = self.now + delay
        call = Call(self, callback, args, context, timer=when)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, context.get(_process) or self.world, call))
        return call

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Call:
        """Let a callback run at a virtual time."""
        if context is None:
            context = contextvars.copy_context()
        call = Call(self, callback, args, context, timer=when)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, context.get(_process) or self.world, call))
        return call

    def run_in_executor(self, *_given: Any) -> Never:  # type: ignore[override]  # whatever is given
        """Refuse: a thread would not repeat."""
        message = "a simulated process starts no threads: make the tool's perform asynchronous"
        raise RuntimeError(message)

    def note_stale(self) -> None:
        """Note that a timer was cancelled; when many are, they are taken out."""
        self._stale += 1
        if self._stale > STALE_TIMERS_MAX:
            self._timers = [timer for timer in self._timers if not timer[3].dead]
            heapq.heapify(self._timers)
            self._stale = 0

    def stop(self) -> None:
        """Stop after the callback that runs now."""
        self._stopped = True
        super().stop()

    def _process_events(self, _events: object) -> None:
        """Do nothing: there are no file descriptors."""

    def _run_once(self) -> None:
        """Run callbacks until somebody stops the loop; time jumps whenever nothing is left to do."""
        self._stopped = False
        runnable, draw = self.runnable, self._draw
        callbacks, limit = self.callbacks, self._limit
        try:
            while not self._stopped:
                many = len(runnable)
                if not many:
                    if self._draining:
                        self.stop()
                    else:
                        self._jump()
                    continue
                place = int(draw() * many) if many > 1 else 0
                ready = runnable[place].ready
                callback, args, context, call = ready.popleft()
                if not ready:
                    runnable[place] = runnable[-1]
                    runnable.pop()
                if call is not None and call.dead:
                    continue
                callbacks += 1
                if callbacks > limit:
                    message = f"more than {CALLBACKS_MAX} callbacks, at {self.now:.1f} virtual seconds"
                    raise RunawayError(message)
                try:
                    if context is None:
                        callback(*args)
                    else:
                        context.run(callback, *args)
                except Exception as problem:
                    self.problems.append(f"{callback!r} raised {problem!r}")
                    if not self._draining:
                        raise
        finally:
            self.callbacks = callbacks

    def _jump(self) -> None:
        """Let time go on to the next timer, and let all be done that is due then."""
        timers, pop = self._timers, heapq.heappop
        while timers and timers[0][3].dead:
            pop(timers)
            self._stale -= 1
        if not timers:
            message = f"nothing will ever happen again, at {self.now:.1f} virtual seconds"
            raise RunawayError(message)
        now = self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= now:
            _, _, process, call = pop(timers)
            if call.dead:
                self._stale -= 1
                continue
            call.timer = 0.0
            self._give(process, call)

    def _give(self, process: Process, call: Call) -> None:
        """Let a process do something as soon as its turn comes."""
        if not process.ready and not process.held:
            self.runnable.append(process)
        process.ready.append((call.callback, call.args, call.context, call))

    # the world

    def spawn(self, name: str) -> Process:
        """Make a process."""
        return Process(self, name)

    def later(self, delay: float, callback: Callable[..., object], *args: Any) -> None:
        """Let the world do something, whoever asks: what travels is in nobody's hands."""
        self.after(delay, self.world, Call(self, callback, args, None))

    def after(self, delay: float, process: Process, call: Call) -> None:
        """Let a process do something after so many virtual seconds."""
        if delay > 0:
            call.timer = self.now + delay
            self._timers_made += 1
            heapq.heappush(self._timers, (call.timer, self._timers_made, process, call))
        else:
            self._give(process, call)

    def unwind(self, processes: list[Process]) -> None:
        """End every task of every process, the killed ones too, so that nothing is left for the garbage collector."""
        self.set_exception_handler(lambda _loop, _context: None)
        self._draining, self._limit = True, self.callbacks + CALLBACKS_MAX
        self.world.held = True  # nothing travels any more
        self.world.ready.clear()
        for process in processes:
            process.held = False
        self.runnable[:] = [process for process in processes if process.ready]
        for _ in range(UNWIND_ROUNDS_MAX):
            left = [task for task in self.tasks if not task.done()]
            if not left:
                self.tasks.clear()
                return
            for task in left:
                task.cancel()
            self.run_forever()

    def create_task(self, coro: Generator[Any, None, Any] | Coroutine[Any, Any, Any], **given: Any) -> SimTask:
        """Make a task of the process that asks for it."""
        return self.begin(coro, **given)

    def begin(self, coro: Generator[Any, None, Any] | Coroutine[Any, Any, Any], **given: Any) -> SimTask:
        """Make a task of the process that asks for it, or of the one whose context is given."""
        task = SimTask(coro, loop=self, **given)  # type: ignore[arg-type]  # a coroutine, as the loop was given
        self.tasks.append(task)
        task.number = len(self.tasks)
        return task

    def _note(self, _loop: object, context: dict[str, Any]) -> None:
        problem = context.get("exception")
        self.problems.append(f"{context.get('message')}: {problem!r}")
