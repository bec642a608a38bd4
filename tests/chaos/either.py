"""Starts a program in the midst of a rolling change: of this version, or of another checkout's, each start anew.

    python -m tests.chaos.either /path/to/other planner /folder/planner_1

The starts of a program take turns, and programs of one kind begin with different versions. Each start is written to
`/folder/planner_1.versions`. When `/folder/upgraded` is there the change is over: what starts then is of this version.
"""

import os
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
OURS, OTHERS = "this", "the other"
UPGRADED: Final = "upgraded"


def versions(place: Path) -> list[str]:
    """Give the version of each start of a program so far."""
    told = place.with_suffix(".versions")
    return told.read_text().splitlines() if told.is_file() else []


def chosen(place: Path) -> str:
    """Choose the version of a program's next start: those of one kind, numbered from 1, begin with different ones."""
    if (place.parent / UPGRADED).exists():
        return OURS
    number = int(place.name.rpartition("_")[2]) if "_" in place.name else 0
    return (OTHERS, OURS)[(number + len(versions(place))) % 2]


def main(other: Path, service: str, place: Path) -> None:
    """Become the program."""
    version = chosen(place)
    with place.with_suffix(".versions").open("a") as told:
        told.write(version + "\n")
    python, env = sys.executable, dict(os.environ)
    if version == OTHERS:
        python = str(other / ".venv" / "bin" / "python")
        env["PYTHONPATH"] = env["PYTHONPATH"].replace(str(ROOT), str(other))
        os.chdir(other)
    os.execve(python, [python, "-m", "tests.chaos.served", service, str(place)], env)  # noqa: S606  (this process)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
