"""The exit codes of every command (pure)."""

from typing import Final

SUCCEEDED: Final = 0
FAILED: Final = 1
USAGE: Final = 2
WAITING: Final = 3
INTERRUPTED: Final = 130
