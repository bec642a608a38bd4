"""The file of an archived month by itself: what is damaged is refused, and what cannot be written leaves nothing behind."""

import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace import codec
from headrace.errors import ValidationError
from headrace.log.archive import BLOBS, LINES, Archive, Manifest, Writer

SECRET = random.Random(7)  # noqa: S311  (noise that no packing makes smaller)


def written(path: Path, noise: int = 0) -> Path:
    with Writer(path) as writer:
        bound = ({"digest": f"sha256:{number:064x}", "workspaces": ["default"]} for number in range(100))
        writer.member(BLOBS, [codec.dumps(each) + b"\n" for each in bound])
        writer.member(LINES, [codec.dumps({"text": f"line {number * number}"}) + b"\n" for number in range(200)])
        writer.member("blobs/noise", [SECRET.randbytes(1_000) for _ in range(noise)])
        writer.finish(
            Manifest(
                month="2026-01",
                incarnation="here",
                made_at=1,
                streams=0,
                events=0,
                lines=200,
                blobs=100,
                positions={},
                members=writer.members,
            )
        )
    return path


def read(path: Path) -> tuple[Manifest, list[object]]:
    with Archive(path) as archive:
        archive.check()
        return archive.manifest, [*archive.bound(), *archive.lines()]


def test_a_file_with_any_bit_turned_or_cut_off_anywhere_is_refused_as_damaged_or_holds_the_same(tmp_path: Path) -> None:
    path = written(tmp_path / "whole.zip")
    whole, known, dice = path.read_bytes(), read(path), random.Random(1)  # noqa: S311  (the same damage each time)
    refused: list[str] = []
    for number in range(160):
        place = dice.randrange(len(whole))
        turned = bytes([whole[place] ^ 1 << dice.randrange(8)])
        path.write_bytes(whole[:place] + (turned + whole[place + 1 :] if number % 2 else b""))
        try:
            assert read(path) == known, "what the members do not say, as their times, may be anything"
        except ValidationError as problem:
            refused.append(problem.message)
    assert len(refused) > 140
    assert all(str(path) in message for message in refused)


@contextmanager
def room(bytes_max: int) -> Iterator[None]:
    """Let no file grow beyond a size, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("lacking", [1, 100, 400, 1_000, 5_000, 19_000])
def test_a_disk_that_is_full_is_said_by_the_name_of_the_file_and_nothing_is_left(tmp_path: Path, lacking: int) -> None:
    size = written(tmp_path / "fits.zip", noise=20).stat().st_size
    with (
        room(size - lacking),
        pytest.raises(ValidationError, match=r"archive\.zip\.part cannot be written: File too large"),
    ):
        written(tmp_path / "archive.zip", noise=20)
    assert [path.name for path in tmp_path.iterdir()] == ["fits.zip"]
