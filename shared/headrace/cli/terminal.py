"""Asking the one at the terminal, without holding up the loop: Ctrl-C ends the command at once, also at a question."""

import asyncio
import os
import sys
import termios
from typing import Final

ANSWER_BYTES_MAX: Final = 4_096


async def asked(question: str) -> str | None:
    """Print a question and give the line that is typed after it; None when the terminal is closed (Ctrl-D).

    What was typed before the question stood there is no answer to it, and is dropped.
    """
    terminal, loop, typed = sys.stdin.fileno(), asyncio.get_running_loop(), asyncio.Event()
    termios.tcflush(terminal, termios.TCIFLUSH)
    print(question, end="", flush=True)
    loop.add_reader(terminal, typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(terminal)
    line = os.read(terminal, ANSWER_BYTES_MAX)
    if not line:
        print(flush=True)
        return None
    return line.decode("utf-8", "replace").strip()
