"""Synchronous functions in threads of their own, so that one that hangs holds up neither the loop nor the exit."""

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable


async def in_thread[T](function: Callable[[], T], name: str) -> T:
    """Call a function in a new daemon thread and give its result or its exception.

    Cancelling leaves the thread to itself: it ends when the function returns, or with the process.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()
    surroundings = contextvars.copy_context()

    def work() -> None:
        try:
            result = surroundings.run(function)
        except BaseException as problem:  # noqa: BLE001  (it is raised where it is awaited)
            future.set_exception(problem)
        else:
            future.set_result(result)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await asyncio.wrap_future(future)
