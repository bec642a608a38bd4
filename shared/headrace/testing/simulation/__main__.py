"""The command. It begins anew with the quicker of Python's allocators: a schedule is nothing but small objects."""

import os
import sys
import sysconfig
from typing import Final

from headrace.config import environment

ALLOCATOR: Final = "PYTHONMALLOC"

if __name__ == "__main__":
    given = environment()
    if ALLOCATOR not in given and sysconfig.get_config_var("WITH_MIMALLOC"):
        os.execve(sys.executable, sys.orig_argv, {**given, ALLOCATOR: "mimalloc"})  # noqa: S606  (itself, again)

    from headrace.testing.simulation.command import main

    sys.exit(main(sys.argv[1:]))
