"""Starts a service as `headrace serve` does, with named points at which it can be told to die.

    python -m tests.chaos.served planner /folder/planner_1

The points are wrapped around methods from outside, here, so that the product carries no trace of them. To arm one,
write `POINT COUNT` into `/folder/planner_1.crash` and send SIGUSR2: at the COUNTth passage the process writes
`/folder/planner_1.crashed` and kills itself with SIGKILL.
"""

import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from headrace.cli.serve import serve_service
from headrace.host.publishing import Publisher
from headrace.log.postgres import PostgresLog
from headrace.worker.claims import BusClaimer
from headrace.worker.outbox import Outbox

BEFORE, AFTER = "before", "after"


def _always(_: Any) -> bool:
    return True


def _brings_events(arguments: Any) -> bool:
    return any(batch.events for batch in arguments[0])


OWNERS: Final = ("planner", "gatekeeper")
Point = tuple[str, type[Any], str, str, Callable[[Any], bool]]
POINTS: Final[tuple[Point, ...]] = (
    ("before_append", PostgresLog, "append_events", BEFORE, _brings_events),
    ("after_append", PostgresLog, "append_events", AFTER, _brings_events),
    ("before_publish", Publisher, "let_out", BEFORE, _always),
    ("after_publish", Publisher, "let_out", AFTER, _always),
    ("after_claim", BusClaimer, "claim", AFTER, _always),
    ("before_report", Outbox, "deliver", BEFORE, _always),
    ("after_report", Outbox, "deliver", AFTER, _always),
)


class Fuse:
    """Counts the passages of the point that is armed."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._point, self._left = "", 0

    def arm(self, *_: object) -> None:
        """Read which point is to be deadly."""
        armed, count = self._place.with_suffix(".crash").read_text().split()
        self._point, self._left = armed, int(count)

    def pass_by(self, point: str) -> None:
        """Die here, if it is time."""
        if point != self._point:
            return
        self._left -= 1
        if self._left <= 0:
            self._place.with_suffix(".crashed").write_text(point)
            os.kill(os.getpid(), signal.SIGKILL)


def wrap(point: Point, fuse: Fuse) -> None:
    """Put a crash point before or after a method."""
    name, owner, method, when, counts = point
    inner = getattr(owner, method)

    async def awaited(owned: Any, *arguments: Any, **named: Any) -> Any:
        if when == BEFORE and counts(arguments):
            fuse.pass_by(name)
        result = await inner(owned, *arguments, **named)
        if when == AFTER and counts(arguments):
            fuse.pass_by(name)
        return result

    def called(owned: Any, *arguments: Any, **named: Any) -> Any:
        if when == BEFORE and counts(arguments):
            fuse.pass_by(name)
        result = inner(owned, *arguments, **named)
        if when == AFTER and counts(arguments):
            fuse.pass_by(name)
        return result

    setattr(owner, method, awaited if inspect.iscoroutinefunction(inner) else called)


def main(service: str, place: Path) -> int:
    """Serve, with the points in place."""
    fuse = Fuse(place)
    if service == "api":
        from headrace_api.commands import Commander

        wrap(("before_answer", Commander, "send_to", AFTER, _always), fuse)
    for point in POINTS:
        wrap(point, fuse)
    signal.signal(signal.SIGUSR2, fuse.arm)
    return serve_service(service)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
