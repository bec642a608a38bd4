"""Synchronous functions in threads of their own, so that one that hangs holds up neither the loop nor the exit."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final


class DaemonThreads(Executor):
    """Starts a daemon thread for each call: nothing waits in a queue, and nobody waits for them at the end."""

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

        threading.Thread(target=work, name="tool", daemon=True).start()
        return future


THREADS: Final = DaemonThreads()


async def in_thread[T](function: Callable[[], T]) -> T:
    """Call a function in a thread of its own and give its result or its exception.

    Cancelling leaves the thread to itself: it ends when the function returns, or with the process.
    """
    surroundings = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(THREADS, lambda: surroundings.run(function))
