"""`headrace up`: everything on this machine, until Ctrl-C."""

import asyncio
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

from headrace.clock import SystemClock
from headrace.config import Config
from headrace.dev.stack import Stack, running
from headrace.dev.until_stopped import until_stopped

EXAMPLE: Final = Path("examples/repo-report.yaml")


async def up(config: Config) -> int:
    """Start everything, say where it is, and keep it running until a signal; gives the exit code.

    Raises HeadraceError for what the user can mend: the folder is in use, the port is taken, a service does not start.
    """
    return await until_stopped(_up(config), code=0)


async def _up(config: Config) -> int:
    clock = SystemClock()
    began = clock.monotonic()
    _say("starting …")
    async with running(config, clock, _say) as stack:
        _say(_banner(stack, clock.monotonic() - began))
        try:
            await asyncio.Event().wait()
        finally:
            _say("stopping …")
    return 0


def _banner(stack: Stack, seconds: float) -> str:
    home, command = stack.home.folder, command_name()
    first = f"run {EXAMPLE}" if EXAMPLE.is_file() else "tools"
    elsewhere = (
        ""
        if home.absolute() == Path(".headrace").absolute()
        else f"  export HEADRACE_DATA_DIR={shlex.quote(str(home))}\n"
    )
    return f"""headrace is ready ({seconds:.1f} s)

  API     {stack.config.base_url}/api
  token   {stack.home.token_file}
  logs    {stack.home.logs}
  data    {home}  (stays when this stops; a run goes on where it was)

Try, in another terminal:

{elsewhere}  {command} {first}
  {command} approvals list
  {command} runs list

Ctrl-C stops everything.
"""


def command_name() -> str:
    """Give how a shell in this folder calls the command: by its name, or where it is when that is not on the PATH."""
    here = Path(sys.argv[0])
    if shutil.which("headrace") or here.name != "headrace":
        return "headrace"
    absolute = here.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
