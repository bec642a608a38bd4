"""How the CEL library is loaded: alone, and with a clear refusal when it is laid out in another way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = "import headrace.expressions.library, sys; "
TERMINAL = ("prompt_toolkit", "pygments", "rich", "typer")


def python(code: str, *, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    found = [str(path)] if path else []
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*found, os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


def test_a_process_that_evaluates_expressions_loads_nothing_for_a_terminal() -> None:
    done = python(LOAD + f"print([name for name in {TERMINAL} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_the_librarys_own_command_line_is_still_there_for_who_wants_it() -> None:
    done = python(LOAD + "import cel; assert not hasattr(cel, 'cli'); import cel.cli; print(cel.cli.__file__)")
    assert Path(done.stdout.strip()).name == "cli.py", done.stderr


def test_a_library_that_was_loaded_whole_before_is_used_as_it_is() -> None:
    done = python("import cel, cel.cli; " + LOAD + "assert cel.cli.__file__; print(cel.compile('1 + 1').execute())")
    assert done.stdout.strip() == "2", done.stderr


@pytest.mark.parametrize(
    "layout",
    [
        {"__init__.py": "from .cli import main", "cli.py": "def main(): ..."},
        {"__init__.py": "from . import cli, stdlib", "cli.py": "", "stdlib.py": "STDLIB_FUNCTIONS = {}"},
        {"__init__.py": "from . import cli", "cli.py": "", "__main__.py": ""},
    ],
    ids=["its command line is needed", "it compiles nothing", "its functions are elsewhere"],
)
def test_a_library_laid_out_in_another_way_is_refused_by_name(tmp_path: Path, layout: dict[str, str]) -> None:
    package = tmp_path / "cel"
    package.mkdir()
    for name, text in layout.items():
        (package / name).write_text(text)
    done = python(LOAD, path=tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: the installed common-expression-language is laid out otherwise than")
