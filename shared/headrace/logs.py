"""The set-up of logging: text on a terminal, one JSON object a line elsewhere, both on stderr."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

QUIET: Final = {
    "asyncio": logging.WARNING,
    "cel": logging.CRITICAL,  # an expression that fails is an answer of ours, not trouble
    "faststream": logging.WARNING,
    "nats": logging.CRITICAL,  # what happens to the connection is said by bus/connection.py
    "uvicorn": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "uvicorn.error": logging.WARNING,
}


MESSAGE_CHARS_MAX: Final = 8_000
"""What somebody sends may be quoted in a message: it must not fill the disk."""


class Bounded(logging.Filter):
    """Cuts messages that are too long, and says by how much."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        text = record.getMessage()
        if len(text) > MESSAGE_CHARS_MAX:
            record.msg, record.args = f"{text[:MESSAGE_CHARS_MAX]}… ({len(text)} characters)", ()
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line, for machines."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(service: str, level: str) -> None:
    """Set up the root logger of this process, and quieten the libraries. Again: sets it up anew."""
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(JsonLines(service))
    handler.addFilter(Bounded())
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name, least in QUIET.items():
        library = logging.getLogger(name)
        library.setLevel(max(least, number))
        library.handlers.clear()
        library.propagate = True
