"""The pages are true: specs in them are valid, links lead somewhere, targets and commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.specs.check import validate
from headrace.specs.documents import read

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])


@each_page
def test_every_spec_on_a_page_is_valid(page: Path) -> None:
    for text in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for document in read(text):
            assert list(validate(document)) == []


@each_page
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []


@each_page
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    known = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE))
    assert named <= known


def test_every_command_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"(?:^|`)headrace ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named
    command = [sys.executable, "-m", "headrace.cli.main", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [name for name in named if not re.search(rf"^\W*{name}\s", told, re.MULTILINE)] == []


def test_every_setting_is_on_its_page_and_headrace_up_hands_it_on() -> None:
    read_by_config = (ROOT / "shared/headrace/config.py").read_text()
    known = set(re.findall(r'"(HEADRACE_[A-Z_]+|MAX_CONCURRENT)"', read_by_config))
    page = (ROOT / "docs/settings.md").read_text()
    assert known
    assert sorted(name for name in known if f"`{name}`" not in page) == []
    handed_on = (ROOT / "shared/headrace/dev/children.py").read_text()
    not_for_services = {"HEADRACE_TOKEN", "HEADRACE_SECRET", "HEADRACE_POOLS"}
    assert sorted(name for name in known - not_for_services if f'"{name}"' not in handed_on) == []


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in sorted((ROOT / "docs").glob("*.md")) if f"(docs/{page.name})" not in readme] == []


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs/adr/README.md").read_text()
    assert [page.name for page in (ROOT / "docs/adr").glob("0*.md") if f"({page.name})" not in index] == []


def test_make_alone_lists_the_targets() -> None:
    told = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = {line.split()[1] for line in told.splitlines()}
    assert targets >= {
        "help",
        "setup",
        "demo",
        "test",
        "check",
        "lint",
        "types",
        "imports",
        "up",
        "lock",
        "bench",
        "clean",
    }


def test_requirements_hold_hashes_and_no_host_names() -> None:
    for file in (ROOT / "requirements").glob("*.txt"):
        text = file.read_text()
        assert "://" not in text
        assert "--index-url" not in text
        assert text.count("==") <= text.count("--hash=sha256:")
