"""The tools that benchmarks call: they do nothing, so that what is measured is headrace."""

import os
import time
from typing import Any

import headrace

_counts = os.environ.get("BENCH_COUNTS")
_file = os.open(_counts, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if _counts else None


@headrace.tool(pool="bench")
async def plus_one(n: int) -> dict[str, int]:
    """Give a number plus one."""
    return {"n": n + 1}


@headrace.tool(pool="bench")
async def plus_one_counted(context: Any, n: int) -> dict[str, int]:
    """Give a number plus one, and leave a line about it: when, and of which step."""
    if _file is not None:
        os.write(_file, f"{time.time()} {context.run_id} {context.step}\n".encode())
    return {"n": n + 1}
