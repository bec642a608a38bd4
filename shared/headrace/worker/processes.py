"""Child processes of tools: a clean environment, a process group of their own, and none left behind."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from headrace.errors import StepError
from headrace.ports.tool import ToolContext

OUTPUT_BYTES_MAX: Final = 4 * 1024 * 1024
READ_BYTES: Final = 64 * 1024
LINE_BYTES_MAX: Final = 64 * 1024
TERMINATE_GRACE_S: Final = 0.5
ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


class Ended(msgspec.Struct, frozen=True):
    """What became of a process: its exit code (negative: the signal), and what it printed up to OUTPUT_BYTES_MAX."""

    exit_code: int
    stdout: bytes
    stderr: bytes


async def run_process(
    context: ToolContext,
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> Ended:
    """Run a program without a shell; its lines are streamed and kept as the artifacts `stdout` and `stderr`.

    When the attempt is cancelled or over its time, the whole process group is ended. Raises StepError (tool_error)
    when the program cannot be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env={**ENVIRONMENT, **(env or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as problem:
        message = f"cannot start {argv[0]!r}: {problem.strerror}"
        raise StepError(message, type="tool_error") from problem
    try:
        async with asyncio.TaskGroup() as group:
            out = group.create_task(_gather(context, process.stdout, "stdout"))
            err = group.create_task(_gather(context, process.stderr, "stderr"))
            group.create_task(_feed(process.stdin, stdin))
        exit_code = await process.wait()
    finally:
        await _end_group(process)
    ended = Ended(exit_code, out.result(), err.result())
    for label, body in (("stdout", ended.stdout), ("stderr", ended.stderr)):
        if body:
            context.artifact(label, Path(argv[0]).name, None, body=body)
    return ended


async def _gather(context: ToolContext, reader: asyncio.StreamReader | None, stream: str) -> bytes:
    assert reader is not None
    kept, rest = bytearray(), b""
    while chunk := await reader.read(READ_BYTES):
        kept += chunk[: max(0, OUTPUT_BYTES_MAX - len(kept))]
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:  # a program that ends no line would be kept here for ever
            lines, rest = [*lines, rest], b""
        for line in lines:
            context.log(line.decode(errors="replace"), stream=stream)
    if rest:
        context.log(rest.decode(errors="replace"), stream=stream)
    return bytes(kept)


async def _feed(writer: asyncio.StreamWriter | None, body: bytes) -> None:
    assert writer is not None
    with suppress(BrokenPipeError, ConnectionResetError):  # the program need not read what it is given
        writer.write(body)
        await writer.drain()
    writer.close()


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """End every process of the group, also grandchildren that outlived the program, also when cancelled once more."""
    try:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        if process.returncode is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(TERMINATE_GRACE_S):
                    await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # one that left the group may hold the pipes for ever: what it prints is nobody's any more
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001  (no public way lets go of the pipes)
    await process.wait()
