"""The CEL library, loaded without its command line (pure). Nothing else here imports `cel`.

`cel/__init__.py` begins with `from . import cli, stdlib`, and its command line brings prompt_toolkit, pygments, rich and
typer: measured, 290 ms and 18 MB in every process, for a terminal program that none of them runs. So an empty module
stands for `cel.cli` while the package is imported. Afterwards it is taken away again: who imports `cel.cli` gets it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final

PACKAGE: Final = "cel"
COMMAND_LINE: Final = "cli"


@contextmanager
def _without_its_command_line() -> Iterator[None]:
    """Keep the package from loading its command line; raises ImportError when it is laid out in another way."""
    if PACKAGE in sys.modules:  # somebody loaded it whole: there is nothing to save any more
        yield
        return
    name = f"{PACKAGE}.{COMMAND_LINE}"
    sys.modules[name] = ModuleType(name)
    try:
        yield
    except (ImportError, AttributeError) as problem:
        message = (
            f"the installed common-expression-language is laid out otherwise than headrace.expressions.library expects "
            f"({problem}): install the release that headrace's requirements name"
        )
        raise ImportError(message) from problem
    finally:
        del sys.modules[name]
    vars(sys.modules[PACKAGE]).pop(COMMAND_LINE, None)


with _without_its_command_line():
    import cel
    import cel.stdlib

    compiled: Final = cel.compile
    optional: Final = cel.OptionalValue
    FUNCTIONS: Final = cel.stdlib.STDLIB_FUNCTIONS
    """What the library offers beyond CEL's own, by name: Python functions."""
