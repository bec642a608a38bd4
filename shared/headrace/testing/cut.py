"""A log that one process loses while others keep it: how a killed process looks from outside."""

from typing import Any

from headrace.errors import UnavailableError
from headrace.log.memory import MemoryLog


class CutLog:
    """One process's way to a MemoryLog. Once `cut`, every call raises UnavailableError: the dead say no goodbye."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.cut = False

    def __getattr__(self, name: str) -> Any:
        if self.cut:
            message = "this process lost the log, as asked for"
            raise UnavailableError(message)
        return getattr(self._log, name)
