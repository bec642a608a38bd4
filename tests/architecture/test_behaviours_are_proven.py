"""Every behaviour in docs/behaviours.md is named by a test that proves it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"(?:\b|_)rows?[ _]((?:\d+(?:\s*(?:,|and|_and_|to)\s*)?)+)", re.IGNORECASE)


def promised() -> list[int]:
    page = (ROOT / "docs" / "behaviours.md").read_text()
    return [int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)]


def named() -> set[int]:
    found: set[int] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        if file != Path(__file__):
            for numbers in NAMED.findall(file.read_text()):
                found.update(int(number) for number in re.findall(r"\d+", numbers))
    return found


@pytest.mark.parametrize("row", promised())
def test_a_test_names_the_row(row: int) -> None:
    assert row in named(), f"no test names row {row} of docs/behaviours.md: write one that fails when it breaks"


def test_a_row_that_no_test_names_would_be_noticed() -> None:
    assert 999_999 not in named()
