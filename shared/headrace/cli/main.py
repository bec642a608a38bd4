"""`headrace`: the command. Exit code 0 succeeded, 1 failed, 2 usage, 3 waiting for somebody.

Modules of commands are loaded when they are needed, so that `headrace serve` starts fast.
"""

import gc
import os
import sys
from collections.abc import Sequence
from typing import Final

from headrace.cli.exits import FAILED, INTERRUPTED, USAGE
from headrace.cli.problems import FILE
from headrace.errors import (
    ConflictError,
    ForbiddenError,
    HeadraceError,
    NotAuthorizedError,
    NotConnectedError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    ValidationError,
)
from headrace.vocabulary import GC_THRESHOLDS

REMEDIES: Final[tuple[tuple[type[HeadraceError], str], ...]] = (
    (UnauthorizedError, "give a token by --token, HEADRACE_TOKEN or .headrace/token (`headrace up` writes it)"),
    (ForbiddenError, "use the token of somebody who may; an admin makes them by `headrace tokens create`"),
    (NotAuthorizedError, "ask for it: `headrace authorize DIGEST`, and let an approver approve it"),
    (NotConnectedError, "connect it: `headrace connections set NAME --secret token=env:NAME`"),
    (UnavailableError, "see that it runs (`headrace up`, `headrace doctor`), then try again"),
)
SHOWN: Final = frozenset({"runs", "approvals"})
"""Commands whose things stand in another way than the caller thought when they are refused with a conflict."""
UP: Final = "`headrace up`"
PROCESSES: Final = frozenset({"up", "demo", "serve", "worker", "db"})
"""Commands that talk to no api: their errors name their own remedy."""

BAD_INPUT: Final = (ValidationError, TooLargeError)
"""What was given is at fault, not what came of it."""


def main() -> None:
    """Run the command line of this process."""
    gc.set_threshold(*GC_THRESHOLDS)  # from the first: looking while modules are loaded costs a tenth of the start
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code; expected errors become one line on stderr, never a traceback."""
    try:
        return _dispatch(list(arguments))
    except HeadraceError as error:
        sys.stdout.flush()
        print(told(error, next(iter(arguments), "")), file=sys.stderr)
        return USAGE if isinstance(error, BAD_INPUT) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`| head`): say nothing, also not at exit when Python flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def told(error: HeadraceError, command: str = "") -> str:
    """Write an error as one line: type, message, remedy; then each problem of a document on a line of its own."""
    first = " ".join(error.message.split())
    wanted = command not in PROCESSES and UP not in first  # a message that names its remedy needs no other
    remedy = next((text for kind, text in REMEDIES if wanted and isinstance(error, kind)), "")
    if isinstance(error, ConflictError) and command in SHOWN:
        remedy = f"look at it as it stands now: `headrace {command} show`"
    problems = error.details.get("problems")
    listed = problems if isinstance(problems, list) and len(problems) > 1 else []
    if listed:
        first = f"there are {len(listed)} problems"
    if error.details.get(FILE):
        first = f"{error.details[FILE]}: {first}"
    lines = [f"error: {error.type}: {first}" + (f" -> {remedy}" if remedy else "")]
    if listed:
        from headrace.cli.problems import line

        lines.extend(f"  {line(problem)}" for problem in listed if isinstance(problem, dict))
    return "\n".join(lines)


def _dispatch(arguments: list[str]) -> int:
    match arguments:
        case ["serve", name] if not name.startswith("-"):
            from headrace.cli.serve import serve_service

            return serve_service(name)
        case ["up"]:
            from headrace.cli.serve import start_everything

            return start_everything()
        case _:
            return _commanded(arguments)


def _commanded(arguments: list[str]) -> int:
    from headrace.cli.commands import app

    try:
        app(*arguments[:1])(args=arguments, prog_name="headrace")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED if end.code else 0
    return 0


if __name__ == "__main__":
    main()
