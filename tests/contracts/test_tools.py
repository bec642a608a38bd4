"""Our own tools keep the contract that third parties run on theirs; broken ones do not."""

from pathlib import Path
from typing import Any

import pytest

from headrace.testing.contracts import ToolContract
from headrace.worker.decorator import tool
from headrace.worker.files import load_tools
from headrace_runner.tools.files import FileCreate, FileRead, FileWrite
from headrace_runner.tools.find import FileGlob, FileSearch
from headrace_runner.tools.symbols import SymbolsInFile

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_tool.py"


class FilesContract(ToolContract):
    def prepare(self, root: Path) -> None:
        (root / "a.py").write_text("def a(): ...\n")

    def wrong_arguments(self) -> list[dict[str, Any]]:
        return [{}, {"path": ""}, {"path": 7}, {**self.arguments(), "unknown": 1}]


class TestFileRead(FilesContract):
    def tool(self) -> Any:
        return FileRead()

    def arguments(self) -> dict[str, Any]:
        return {"path": "a.py"}


class TestFileWrite(FilesContract):
    def tool(self) -> Any:
        return FileWrite()

    def arguments(self) -> dict[str, Any]:
        return {"path": "a.py", "contents": "x"}


class TestFileCreate(FilesContract):
    def tool(self) -> Any:
        return FileCreate()

    def arguments(self) -> dict[str, Any]:
        return {"path": "new/b.py", "contents": "x"}


class TestSymbolsInFile(FilesContract):
    def tool(self) -> Any:
        return SymbolsInFile()

    def arguments(self) -> dict[str, Any]:
        return {"path": "a.py"}


class TestFileGlob(FilesContract):
    def tool(self) -> Any:
        return FileGlob()

    def arguments(self) -> dict[str, Any]:
        return {"pattern": "*.py"}

    def wrong_arguments(self) -> list[dict[str, Any]]:
        return [{}, {"pattern": ""}]


class TestFileSearch(TestFileGlob):
    def tool(self) -> Any:
        return FileSearch()

    def arguments(self) -> dict[str, Any]:
        return {"pattern": r"def \w+"}


class TestTheExample(ToolContract):
    def tool(self) -> Any:
        return next(each for each in load_tools(EXAMPLE) if each.name == "word_count")

    def arguments(self) -> dict[str, Any]:
        return {"text": "to be or not to be"}

    def wrong_arguments(self) -> list[dict[str, Any]]:
        return [{}, {"text": 1}, {"text": "x", "more": 1}]


class PlainPlugin:
    """A plug-in in the older form."""

    name = "plain"
    required_inputs = ("text",)

    def run(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"length": len(payload["text"])}


class TestAPlainPlugin(ToolContract):
    def tool(self) -> Any:
        return PlainPlugin()

    def arguments(self) -> dict[str, Any]:
        return {"text": "abc"}

    def wrong_arguments(self) -> list[dict[str, Any]]:
        return [{}, {"text": ""}, {"text": None}]


@tool(effect="write", access="auto")
def rash() -> dict[str, int]:
    """Write without asking."""
    return {}


def test_the_contract_bites_a_write_that_needs_no_approval() -> None:
    class Rash(ToolContract):
        def tool(self) -> Any:
            return rash

        def arguments(self) -> dict[str, Any]:
            return {}

    with pytest.raises(AssertionError):
        Rash().test_what_it_does_to_the_world_is_not_done_by_itself()
