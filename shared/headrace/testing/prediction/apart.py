"""A prediction in a process of its own, for a server that must neither wait for it nor grow by it.

The process is given everything on its standard input, and answers on its standard output: no address, no key and no
file of the server reach it. It can write no file, and its time and memory are limited by the system.
"""

import asyncio
import os
import sys
from typing import Any, Final

import msgspec

from headrace import codec
from headrace.errors import HeadraceError, StepError, UnprocessableError, from_envelope
from headrace.events.catalogue import ToolManifest
from headrace.testing.prediction.scenario import Scenario

SECONDS_MAX: Final = 45.0
"""The longest that a simulation may take by the clock, on a machine that has other things to do."""
CPU_S_MAX: Final = 20
"""The longest that it may keep a processor."""
MEMORY_BYTES_MAX: Final = 384 * 1024 * 1024
"""Address space: two such processes and the api fit into what its pod may use."""
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
SAID_BYTES_MAX: Final = 2_000
PROCESS: Final = "headrace.testing.prediction.alone"
"""The module that the process runs."""
TOO_MUCH: Final = "; `headrace simulate` on a machine of your own has no such limit"


class Wanted(msgspec.Struct, kw_only=True, frozen=True):
    """What is to be predicted: a document, those of its children, what is supposed, and the tools by their manifests."""

    text: str
    others: tuple[str, ...] = ()
    scenario: Scenario = Scenario()
    manifests: tuple[ToolManifest, ...] = ()


class Answered(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What the process says: what would happen, or why that cannot be told."""

    told: codec.Raw = codec.NULL
    error: dict[str, Any] | None = None


async def predict_apart(wanted: Wanted, *, seconds: float = SECONDS_MAX) -> bytes:
    """Predict in a process of its own and give what `Told` is as JSON.

    Raises UnprocessableError for what takes too long, too much memory, or is too long to tell; and as `predict`.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", PROCESS,
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            out, said = await process.communicate(codec.dumps(msgspec.to_builtins(wanted)))
    except TimeoutError as problem:
        message = f"the simulation takes longer than {seconds:g} s{TOO_MUCH}"
        raise UnprocessableError(message) from problem
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = said[-SAID_BYTES_MAX:].decode(errors="replace").strip().rpartition("\n")[2]
        message = f"the simulation ended without an answer ({last or process.returncode}){TOO_MUCH}"
        raise UnprocessableError(message)
    answered = msgspec.json.decode(out, type=Answered)
    if answered.error is not None:
        raise _refusal(answered.error)
    return bytes(answered.told)


def _refusal(error: dict[str, Any]) -> HeadraceError:
    """Give what the process refused with; what no caller could be told otherwise is about the document."""
    problem = from_envelope(error)
    if isinstance(problem, StepError):
        return UnprocessableError(problem.message, details=problem.details, plugin=problem.plugin)
    return problem
