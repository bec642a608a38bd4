"""Synchronous functions in threads of their own, so that one that hangs holds up neither the loop nor the exit."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final

ABANDONED_AFTER_S: Final = 1.0
"""How long a function has to heed that it was told to stop before its thread is named."""

log = logging.getLogger(__name__)


class DaemonThread(Executor):
    """Calls one function in a daemon thread: nothing waits in a queue, and nobody waits for it at the end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.thread: threading.Thread | None = None

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in a new thread."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()

        def work() -> None:
            try:
                result = function(*args, **kwargs)
            except BaseException as problem:  # noqa: BLE001  (it is raised where it is awaited)
                future.set_exception(problem)
            else:
                future.set_result(result)

        self.thread = threading.Thread(target=work, name=self._name, daemon=True)
        self.thread.start()
        return future


class Threads:
    """The threads of one worker's tools. A thread cannot be ended from outside: one left to itself is named."""

    def __init__(self) -> None:
        self._left: dict[str, threading.Thread] = {}

    async def call[T](self, function: Callable[[], T], name: str) -> T:
        """Call a function in a thread of its own and give its result or its exception.

        Cancelling leaves the thread to itself: it ends when the function returns, or with the process.
        """
        loop = asyncio.get_running_loop()
        own = DaemonThread(name)
        surroundings = contextvars.copy_context()
        try:
            return await loop.run_in_executor(own, lambda: surroundings.run(function))
        except asyncio.CancelledError:
            if own.thread is not None and own.thread.is_alive():
                loop.call_later(ABANDONED_AFTER_S, self._look, name, own.thread)
            raise

    def abandoned(self) -> tuple[str, ...]:
        """Name the threads that were told to stop and go on; may be asked from any thread."""
        return tuple(name for name, thread in self._left.copy().items() if thread.is_alive())

    def _look(self, name: str, thread: threading.Thread) -> None:
        self._left = {known: other for known, other in self._left.items() if other.is_alive()}
        if thread.is_alive():
            self._left[name] = thread
            log.warning(
                "the thread %r goes on although its attempt was stopped: it ends when its function returns; "
                "a tool that looks at `context.cancelled` can end sooner",
                name,
            )


async def in_thread[T](function: Callable[[], T], name: str = "tool") -> T:
    """Call a function in a daemon thread of its own; as `Threads.call`, for those who keep no account of them."""
    return await Threads().call(function, name)
