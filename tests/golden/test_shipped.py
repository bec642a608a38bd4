"""Whatever a shipped version wrote is read for ever, and code that writes anything else keeps older code away."""

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from tests.golden import shipped
from tests.golden.shipped import LIST, ROOT, Log, Shipped, freeze, logs, problems, versions

TAG = "v"


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder in which this very code was shipped as 1.0.0."""
    root = tmp_path_factory.mktemp("golden")
    freeze("1.0.0", root)
    return root


def copy_of(frozen: Path, root: Path) -> Path:
    shutil.copytree(frozen / "1.0.0", root / "1.0.0")
    return root


def test_what_every_shipped_version_wrote_is_read_as_it_was_meant() -> None:
    assert [problem for version in versions() for problem in problems(version)] == []


def test_the_newest_shipped_version_is_kept_away_from_what_it_could_not_read() -> None:
    assert [problem for version in versions()[-1:] for problem in problems(version, now=logs())] == []


def test_every_tagged_version_was_frozen() -> None:
    told = subprocess.run(
        ["git", "tag", "--list", f"{TAG}*"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert {tag.removeprefix(TAG) for tag in told.stdout.split()} <= set(versions()), (
        "run `python -m tests.golden.shipped VERSION` before tagging"
    )


def test_a_version_frozen_now_holds_now(frozen: Path) -> None:
    assert versions(frozen) == ["1.0.0"]
    assert problems("1.0.0", frozen, logs()) == []
    with pytest.raises(FileExistsError):
        freeze("1.0.0", frozen)


def test_a_frozen_file_that_is_changed_or_gone_is_named(frozen: Path, tmp_path: Path) -> None:
    root = copy_of(frozen, tmp_path)
    (root / "1.0.0/events/run.started.json").write_text('{"type":"run.started"}\n')
    (root / "1.0.0/events/run.succeeded.json").unlink()
    assert [problem.partition(" ")[0] for problem in problems("1.0.0", root)] == [
        "events/run.started.json",
        "events/run.succeeded.json",
    ]


def test_an_event_or_history_that_is_not_read_any_more_is_named(frozen: Path, tmp_path: Path) -> None:
    root = copy_of(frozen, tmp_path)
    (root / "1.0.0/events/run.gone.json").write_text("{}")
    (root / "1.0.0/events/run.started@9.json").write_text('{"type":"run.started"}')
    history = root / "1.0.0/histories/chain-run-1.jsonl"
    lines = history.read_text().splitlines()
    history.write_text("\n".join(lines[:-1]) + "\n")
    told = "\n".join(problems("1.0.0", root))
    assert "event run.gone is not read any more" in told
    assert "event run.started@9 is not read any more" in told
    assert "schema 9" in told
    assert "history chain-run-1 ended as" in told


def test_another_shape_without_another_format_is_named(frozen: Path) -> None:
    now = logs()
    changed = now | {"runs": Log(now["runs"].format, "sha256:another")}
    (told,) = problems("1.0.0", frozen, changed)
    assert "log runs" in told
    assert problems("1.0.0", frozen, now | {"runs": Log(now["runs"].format + 1, "sha256:another")}) == []
    assert len(problems("1.0.0", frozen, now | {"runs": Log(now["runs"].format - 1, now["runs"].shape)})) == 1


def test_a_shape_follows_every_field_and_schema_of_a_logs_events(frozen: Path) -> None:
    kept = msgspec.json.decode((frozen / "1.0.0" / LIST).read_bytes(), type=Shipped)
    assert kept.logs == logs()
    assert len({log.shape for log in kept.logs.values()}) == len(kept.logs) >= 3
    assert shipped.versions(ROOT) == sorted(shipped.versions(ROOT))
