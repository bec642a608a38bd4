"""The process that `apart` starts: it predicts what its standard input says, with the system's limits upon it."""

import resource
import sys
from typing import Any, Final

import msgspec

from headrace import codec
from headrace.errors import HeadraceError, ToolNotFoundError, UnprocessableError
from headrace.service import installed
from headrace.testing.prediction.apart import (
    ANSWER_BYTES_MAX,
    CPU_S_MAX,
    MEMORY_BYTES_MAX,
    TOO_MUCH,
    Answered,
    Wanted,
)
from headrace.testing.prediction.predict import predict, tools_needed
from headrace.testing.prediction.stubs import GATE, Remote, tools_here
from headrace.testing.prediction.told import Told

NEEDED: Final = frozenset({"planner", "gatekeeper"})
"""Services whose rooms and gates a simulation runs."""


def _predicted(wanted: Wanted) -> Told:
    absent = NEEDED - installed().keys()
    if absent:
        message = f"nothing can be simulated here: not installed beside the api: {', '.join(sorted(absent))}"
        raise UnprocessableError(message)
    gates = {name: tool for name, tool in tools_here().items() if getattr(tool, "kind", "") == GATE}
    known: dict[str, Any] = {one.name: Remote(one) for one in wanted.manifests} | gates
    missing = tools_needed([wanted.text, *wanted.others]) - known.keys()
    if missing:
        message = f"no worker of this workspace ever offered: {', '.join(sorted(missing))}"
        raise ToolNotFoundError(message, details={"tools": sorted(missing)})
    return predict(wanted.text, wanted.scenario, known, wanted.others)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))


def answer(given: bytes) -> bytes:
    """Answer what was asked on the process's standard input."""
    try:
        told = codec.dumps(msgspec.to_builtins(_predicted(msgspec.convert(codec.loads(given), Wanted))))
        if len(told) > ANSWER_BYTES_MAX:
            message = f"what the simulation tells is {len(told)} bytes long, over {ANSWER_BYTES_MAX}{TOO_MUCH}"
            raise UnprocessableError(message)
        return msgspec.json.encode(Answered(told=msgspec.Raw(told)))
    except HeadraceError as problem:
        return msgspec.json.encode(Answered(error=problem.envelope()))


def main() -> None:
    """Be the process."""
    _limit()
    sys.stdout.buffer.write(answer(sys.stdin.buffer.read()))


if __name__ == "__main__":
    main()
