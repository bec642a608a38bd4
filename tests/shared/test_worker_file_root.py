"""A file root: what is no path in it is refused by name, whatever it is asked for, and nothing is left of what failed."""

from pathlib import Path

import pytest

from headrace.errors import ConflictError, NotFoundError, TooLargeError, ValidationError
from headrace.worker.file_root import DEPTH_MAX, FILE_MODE, FileRoot


@pytest.fixture
def root(tmp_path: Path) -> FileRoot:
    (tmp_path / "root").mkdir()
    return FileRoot(tmp_path / "root")


@pytest.mark.parametrize(
    "path", ["", "a\0b", "a/\ud800", "\ud800", "../a", "a/../../b", "/etc/passwd", "a/" * DEPTH_MAX + "a"]
)
def test_what_is_no_path_in_it_is_refused_whatever_is_asked(root: FileRoot, path: str) -> None:
    for ask in (root.read, root.kind, lambda it: list(root.walk(it)), lambda it: root.create(it, b"", token="t")):
        with pytest.raises(ValidationError) as refused:
            ask(path)
        assert refused.value.details == {"path": path}
    assert list(root.walk(hidden=True)) == []


def test_a_path_may_be_as_deep_as_it_may_be_and_is_found_there(root: FileRoot) -> None:
    path = "a/" * (DEPTH_MAX - 1) + "b"
    root.create(path, b"1", token="t")
    assert root.read(path) == root.read(f"{root.root}/{path}") == b"1"
    assert list(root.walk()) == [path]


def test_what_leads_out_by_a_link_is_neither_listed_nor_read(root: FileRoot, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("s")
    (root.root / "folder").symlink_to(tmp_path / "outside")
    (root.root / "file").symlink_to(tmp_path / "outside" / "secret")
    assert list(root.walk(hidden=True)) == []
    assert (root.kind("folder"), root.kind("file")) == ("other", "other")
    for path in ("folder/secret", "file"):
        with pytest.raises(ValidationError):
            root.read(path)
        with pytest.raises((ValidationError, ConflictError)):
            root.write(path, b"x", token="t")
    assert (tmp_path / "outside" / "secret").read_text() == "s"


def test_a_file_is_read_up_to_its_limit_and_no_further(root: FileRoot) -> None:
    root.create("a", b"12345", token="t")
    assert root.read("a", 5) == b"12345"
    with pytest.raises(TooLargeError) as refused:
        root.read("a", 4)
    assert refused.value.details == {"path": "a", "size_bytes": 5, "bytes_max": 4}


def test_a_write_keeps_the_mode_of_what_it_replaces_and_leaves_nothing_beside(root: FileRoot) -> None:
    root.create("a", b"1", token="t")
    assert (root.root / "a").stat().st_mode & 0o777 == FILE_MODE
    (root.root / "a").chmod(0o751)
    (root.root / ".headrace-t.tmp").write_text("of a worker that died")
    root.write("a", b"2", token="t")
    assert ((root.root / "a").stat().st_mode & 0o777, root.read("a")) == (0o751, b"2")
    with pytest.raises(ConflictError):
        root.create("a", b"3", token="t")
    (root.root / "b").mkdir()
    for path, refusal in (("b", ValidationError), ("b/", ValidationError), ("c/d", NotFoundError)):
        with pytest.raises(refusal):
            root.write(path, b"4", token="t")
    assert list(root.walk(hidden=True)) == ["a"]
    assert root.read("a") == b"2"
