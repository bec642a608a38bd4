"""`python -m benchmarks` runs all benchmarks, `python -m benchmarks chain` one."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from benchmarks.chain import chain

ALL: Final[dict[str, Callable[[], Coroutine[Any, Any, None]]]] = {"chain": chain}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all."""
    unknown = set(names) - set(ALL)
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(ALL)}", file=sys.stderr)
        return 2
    for name in names or list(ALL):
        asyncio.run(ALL[name]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
