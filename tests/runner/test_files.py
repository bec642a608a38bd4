"""File tools on a real folder, through ToolRunner."""

import os
from pathlib import Path
from typing import Any

import pytest

from headrace import codec
from headrace.config import Config
from headrace.messages import ReportAttempt
from headrace.worker.twins import Bench
from headrace_runner.service import service


@pytest.fixture
def root(tmp_path: Path) -> Path:
    inside = tmp_path / "root"
    (inside / "src" / "deep").mkdir(parents=True)
    (inside / ".git").mkdir()
    (inside / "src" / "b.py").write_text("def b(): ...\n# needle here\n")
    (inside / "src" / "a.py").write_text("import os\n")
    (inside / "src" / "deep" / "c.py").write_text("# needle\n")
    (inside / ".git" / "hidden.py").write_text("# needle\n")
    (inside / "binary").write_bytes(b"\xff\xfe\x00needle")
    (tmp_path / "outside.txt").write_text("secret")
    return inside


@pytest.fixture
def bench(root: Path) -> Bench:
    return Bench(root, *service.tools(Config()))


def error(report: ReportAttempt) -> tuple[str, str]:
    assert report.error is not None, report
    return report.error.type, report.error.message


async def output(bench: Bench, tool: str, **arguments: Any) -> Any:
    report = await bench.perform(tool, arguments)
    assert report.status == "succeeded", report.error
    return bench.output(report)


async def test_file_read_gives_contents_size_and_digest(bench: Bench) -> None:
    got = await output(bench, "file_read", path="src/a.py")
    assert got == {
        "path": "src/a.py",
        "contents": "import os\n",
        "size_bytes": 10,
        "sha256": codec.sha256(b"import os\n"),
    }


async def test_a_missing_file_is_not_found_and_not_empty(bench: Bench) -> None:
    assert error(await bench.perform("file_read", {"path": "nope"}))[0] == "not_found"


async def test_a_file_that_is_no_text_is_refused(bench: Bench) -> None:
    kind, message = error(await bench.perform("file_read", {"path": "binary"}))
    assert kind == "validation_error"
    assert "UTF-8" in message


async def test_file_write_replaces_atomically_and_keeps_the_file_as_an_artifact(bench: Bench, root: Path) -> None:
    report = await bench.perform("file_write", {"path": "src/a.py", "contents": "new ü"})
    assert (root / "src/a.py").read_text() == "new ü"
    assert bench.claimer.claimed == [report.attempt_id]
    (artifact,) = report.artifacts
    assert (artifact.type, codec.loads(artifact.value), codec.loads(artifact.body)) == ("file", "src/a.py", "new ü")
    assert not list(root.rglob("*.tmp"))


async def test_file_write_to_a_missing_parent_fails__row_77(bench: Bench, root: Path) -> None:
    assert error(await bench.perform("file_write", {"path": "none/x.txt", "contents": ""}))[0] == "not_found"
    assert not (root / "none").exists()


async def test_file_create_on_an_existing_file_fails_and_leaves_it__row_77(bench: Bench, root: Path) -> None:
    assert error(await bench.perform("file_create", {"path": "src/a.py", "contents": "x"}))[0] == "conflict"
    assert (root / "src/a.py").read_text() == "import os\n"
    assert not list(root.rglob("*.tmp"))


async def test_file_create_makes_parents__row_77(bench: Bench, root: Path) -> None:
    await output(bench, "file_create", path="x/y/z.txt", contents="made")
    assert (root / "x/y/z.txt").read_text() == "made"


async def test_file_search_with_a_bad_regex_fails__row_77(bench: Bench) -> None:
    kind, message = error(await bench.perform("file_search", {"pattern": "(unclosed"}))
    assert kind == "validation_error"
    assert "(unclosed" in message


async def test_file_search_without_matches_succeeds_empty__row_77(bench: Bench) -> None:
    assert await output(bench, "file_search", pattern="haystack") == {"matches": [], "complete": True}


async def test_file_search_gives_path_line_and_text(bench: Bench) -> None:
    got = await output(bench, "file_search", pattern="needle", glob="**/*.py")
    assert got["matches"] == [
        {"path": "src/b.py", "line": 2, "text": "# needle here"},
        {"path": "src/deep/c.py", "line": 1, "text": "# needle"},
    ]


async def test_file_search_over_its_limit_says_that_it_is_not_complete(bench: Bench) -> None:
    got = await output(bench, "file_search", pattern="needle", glob="**/*.py", limit=1)
    assert len(got["matches"]) == 1
    assert got["complete"] is False


async def test_file_glob_is_sorted_and_leaves_hidden_names_out__row_77(bench: Bench) -> None:
    assert await output(bench, "file_glob", pattern="**/*.py") == {"paths": ["src/a.py", "src/b.py", "src/deep/c.py"]}


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("src/*.py", ["src/a.py", "src/b.py"]),
        ("*.py", []),
        ("src/**", ["src/a.py", "src/b.py", "src/deep/c.py"]),
        ("src/[!a].py", ["src/b.py"]),
        (".git/*", [".git/hidden.py"]),
        ("**/deep/?.py", ["src/deep/c.py"]),
    ],
)
async def test_globs_cross_folders_only_with_two_stars(bench: Bench, pattern: str, paths: list[str]) -> None:
    assert (await output(bench, "file_glob", pattern=pattern))["paths"] == paths


async def test_a_glob_below_a_folder_gives_paths_below_the_file_root(bench: Bench) -> None:
    assert (await output(bench, "file_glob", pattern="*.py", root="src"))["paths"] == ["src/a.py", "src/b.py"]


ESCAPES = [
    "../outside.txt",
    "src/../../outside.txt",
    "/etc/passwd",
    "link.txt",
    "folder/outside.txt",
    "src/up/outside.txt",
]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("tool", ["file_read", "file_write", "file_create"])
async def test_no_path_leads_out_of_the_file_root(bench: Bench, root: Path, tool: str, path: str) -> None:
    (root / "link.txt").symlink_to(root.parent / "outside.txt")
    (root / "folder").symlink_to(root.parent)
    (root / "src" / "up").symlink_to("../..")
    arguments = {"path": path} if tool == "file_read" else {"path": path, "contents": "overwritten"}
    report = await bench.perform(tool, arguments)
    assert report.status == "failed"
    assert "secret" not in str(report)
    assert (root.parent / "outside.txt").read_text() == "secret"


async def test_globs_and_searches_do_not_follow_links(bench: Bench, root: Path) -> None:
    (root / "folder").symlink_to(root.parent)
    assert "outside" not in str(await output(bench, "file_glob", pattern="**/*.txt"))
    assert (await output(bench, "file_search", pattern="secret"))["matches"] == []
    assert error(await bench.perform("file_glob", {"pattern": "*", "root": "folder"}))[0] == "validation_error"
    assert error(await bench.perform("file_glob", {"pattern": "../*"}))[0] == "validation_error"


async def test_a_pipe_is_refused_and_does_not_hang(bench: Bench, root: Path) -> None:
    os.mkfifo(root / "pipe")
    assert error(await bench.perform("file_read", {"path": "pipe"}))[0] == "validation_error"


async def test_an_absolute_path_inside_the_root_is_the_same_file(bench: Bench, root: Path) -> None:
    assert (await output(bench, "file_read", path=str(root / "src/a.py")))["contents"] == "import os\n"


@pytest.mark.parametrize("path", ["", "a\x00b", "src/", "."])
async def test_what_is_no_file_path_is_refused_before_anything_is_written(bench: Bench, path: str) -> None:
    assert error(await bench.perform("file_write", {"path": path, "contents": "x"}))[0] == "validation_error"


SOURCE = """# é😀
import os

class Zebra:
    @property
    def stripes(self): return "ü"

async def apple(x):
    def inner(): ...

def Zebra2(): pass
"""


async def test_symbols_are_by_name_ascending_with_byte_spans__row_80(bench: Bench, root: Path) -> None:
    (root / "z.py").write_text(SOURCE)
    symbols = (await output(bench, "symbols_in_file", path="z.py"))["symbols"]
    assert [(each["name"], each["kind"], each["line"]) for each in symbols] == [
        ("Zebra", "class", 4),
        ("Zebra2", "function", 11),
        ("apple", "function", 8),
        ("inner", "function", 9),
        ("stripes", "method", 6),
    ]
    body = SOURCE.encode()
    for each in symbols:
        span = body[each["start_byte"] : each["end_byte"]].decode()
        assert span.startswith(("class ", "def ", "async def "))
        assert each["name"] in span.splitlines()[0]
    assert body[symbols[4]["start_byte"] : symbols[4]["end_byte"]].decode() == 'def stripes(self): return "ü"'


async def test_symbols_of_an_unknown_language_are_refused(bench: Bench) -> None:
    assert error(await bench.perform("symbols_in_file", {"path": "x.rs"}))[0] == "validation_error"


@pytest.mark.parametrize(
    "condition",
    [
        "file exists nope.txt",
        ["file exists src/a.py", "file missing src/b.py"],
        "directory exists link",
        "file exists link",
        "directory exists src/a.py",
    ],
)
async def test_a_failed_precondition_keeps_the_tool_from_being_called__row_76(
    bench: Bench, root: Path, condition: Any
) -> None:
    (root / "link").symlink_to(root / "src")
    report = await bench.perform("file_read", {"path": "src/a.py"}, precondition=codec.raw(condition))
    assert error(report)[0] == "precondition_failed"
    assert bench.registry.get("file_read").last_used is None


async def test_unknown_precondition_text_is_refused__row_76(bench: Bench) -> None:
    report = await bench.perform("file_read", {"path": "src/a.py"}, precondition=codec.raw("moon is full"))
    assert error(report)[0] == "precondition_failed"
    assert "moon is full" in error(report)[1]
    assert bench.registry.get("file_read").last_used is None


@pytest.mark.parametrize(
    "condition", ["file exists src/a.py", "file missing nope", "file missing no/folder", "directory exists src"]
)
async def test_a_precondition_that_holds_lets_the_tool_be_called(bench: Bench, condition: str) -> None:
    report = await bench.perform("file_read", {"path": "src/a.py"}, precondition=codec.raw(condition))
    assert report.status == "succeeded"
