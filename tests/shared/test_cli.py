"""The command line without an api: usage, offline checks, where it looks for things."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from headrace import __version__
from headrace.cli.inputs import as_declared, declared_in, inputs_of
from headrace.cli.main import invoke, told
from headrace.cli.narrating import sentence
from headrace.cli.options import found
from headrace.cli.stack import beside_up
from headrace.client.client import Client
from headrace.client.tokens import derive, mint, parse
from headrace.client.transport import unreachable
from headrace.config import read
from headrace.errors import ConflictError, UnauthorizedError, UnavailableError, ValidationError
from headrace.events.base import Event
from headrace.events.runs import RunEvent, StepsSucceeded
from headrace.keys import Keys

GOOD = "apiVersion: headrace/v1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  steps:\n    - {id: a, wait: {duration: 1s}}\n"
BAD = GOOD.replace("id: a", "id: a, idd: b") + "    - {id: a, wait: {duration: 1s}}\n"


def test_usage_is_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["dance"]) == 2
    assert invoke(["runs", "show"]) == 2
    assert invoke(["get", "nonsense"]) == 2
    assert "known are" in capsys.readouterr().err
    assert invoke(["--help"]) == 0


def test_validate_lists_all_problems_with_line_and_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(GOOD)
    bad.write_text(BAD)
    assert invoke(["validate", str(good)]) == 0
    capsys.readouterr()
    assert invoke(["validate", str(bad)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{bad}:6:")
    assert lines[1].startswith(f"{bad}:7:")
    assert invoke(["validate", str(bad), "-o", "json"]) == 2
    assert json.loads(capsys.readouterr().out)["valid"] is False


def test_expected_errors_are_one_line_with_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "nothing.yaml"]) == 2
    assert capsys.readouterr().err == "error: validation_error: there is no file nothing.yaml\n"
    assert invoke(["run", "w", "--inputs", "[1]"]) == 2
    assert "--inputs must be a JSON object" in capsys.readouterr().err
    assert invoke(["connections", "set", "x", "--secret", "oops"]) == 2


def test_several_problems_of_a_document_are_said_once_each() -> None:
    problems = [{"path": "a", "message": "wrong", "line": 1, "column": 2}, {"path": "b", "message": "worse", "line": 3}]
    error = ValidationError("line 1: a: wrong; line 3: b: worse", details={"problems": problems})
    assert told(error).splitlines() == [
        "error: validation_error: there are 2 problems",
        "  1:2: a: wrong",
        "  3: b: worse",
    ]


def test_a_worker_finds_the_servers_and_keys_of_a_running_up(tmp_path: Path) -> None:
    secret = "ab" * 32
    for name, text in {"nats.url": "nats://127.0.0.1:4", "api": "http://127.0.0.1:5", "secret": secret}.items():
        (tmp_path / name).write_text(text + "\n")
    config = beside_up(read({"HEADRACE_DATA_DIR": str(tmp_path)}))
    assert (config.nats_url, config.base_url) == ("nats://127.0.0.1:4", "http://127.0.0.1:5")
    assert config.keys == Keys(master=bytes.fromhex(secret))
    given = read({"HEADRACE_NATS_URL": "nats://elsewhere:4222"})
    assert beside_up(given) is given


@pytest.mark.parametrize(
    "given", ["http://api:8374", "http://api:8374/", "http://api:8374/api", "http://api:8374/api/"]
)
def test_the_address_of_the_api_may_be_given_as_up_prints_it(given: str) -> None:
    assert read({"HEADRACE_API_URL": given}).base_url == "http://api:8374"
    assert Client(given).transport.url == "http://api:8374"


@pytest.mark.parametrize(
    ("given", "read_as"),
    [
        ("https://api/", "https://api"),
        ("https://api/api", "https://api"),
        ("https://h/rapi", "https://h/rapi"),
        ("https://h/x/api/", "https://h/x"),
    ],
)
def test_only_a_last_part_that_is_the_apis_own_is_left_out(given: str, read_as: str) -> None:
    assert read({"HEADRACE_API_URL": given}).base_url == read_as


@pytest.mark.parametrize(
    ("given", "meant"),
    [("api:8374", "http://api:8374"), ("ftp://api", "http://127.0.0.1:8374"), ("http://", "http://127.0.0.1:8374")],
)
def test_what_is_no_address_is_refused_with_one_that_is(
    given: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValidationError, match=f"HEADRACE_API_URL must be .* such as {meant}, not '{given}'"):
        read({"HEADRACE_API_URL": given})
    assert invoke(["runs", "list", "--url", given]) == 2
    assert f"--url must be an address with http:// or https://, such as {meant}" in capsys.readouterr().err


def test_what_talks_to_no_api_names_its_own_remedy() -> None:
    taken = ConflictError("headrace already runs on .headrace; stop it, or set HEADRACE_DATA_DIR")
    assert told(taken, "up") == f"error: conflict: {taken.message}"


def test_an_unknown_service_is_refused_in_one_line() -> None:
    command = [sys.executable, "-m", "headrace.cli.main", "serve", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "no service 'nonsense'" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_schemas_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["schema", "workflow"]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith("https://json-schema.org")
    assert invoke(["schema", "poem"]) == 2


def test_tokens_are_found_in_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hr_x\n")
    assert found("token", read({"HEADRACE_DATA_DIR": str(tmp_path)})) == "hr_x"


def test_a_tokens_text_is_read_back() -> None:
    made = mint(b"e" * 48)
    assert parse(made.text) == (made.id, made.secret)
    assert derive(b"k" * 32, "a", "b") == derive(b"k" * 32, "a", "b") != derive(b"k" * 32, "a", "c")
    for bad in ("", "hr_", made.text[:20], "x" + made.text):
        with pytest.raises(UnauthorizedError):
            parse(bad)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--version"]) == 0
    assert capsys.readouterr().out == f"headrace {__version__}\n"


def test_what_is_missing_or_unknown_is_said_with_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["get"], "say what to list: workflows, "),
        (["apply"], "name a document: headrace apply FILE"),
        (["apply", "a.yaml", "-f", "b.yaml"], "a.yaml cannot be read"),
        (["schema", "nosuch"], "known are: Workflow, "),
    ):
        assert invoke(arguments) == 2, arguments
        assert said in capsys.readouterr().err


def test_an_error_that_names_its_remedy_gets_no_second_one() -> None:
    assert told(unreachable("http://x", OSError("gone"))).count("headrace up") == 1
    assert "-> see that it runs" in told(UnavailableError("the database does not answer"))


@pytest.mark.parametrize("kind", [kind for kind in get_args(RunEvent) if kind is not StepsSucceeded], ids=str)
def test_every_event_of_a_run_is_told_as_a_sentence(kind: type[Event]) -> None:
    assert not sentence(kind.type_name(), {}).startswith(kind.type_name())


def test_paragraphs_of_help_are_filled(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["simulate", "--help"], "people are taken to agree unless --approve or --reject say otherwise"),
        (["db", "collect", "--help"], "Without this they go when the months up to theirs are archived"),
    ):
        assert invoke(arguments) == 0
        lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
        text = "\n".join(lines)
        assert words in " ".join(lines)
        assert "--approve or\n--reject" not in text


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        ("wait.started", {"step": "w", "kind": "trigger", "name": "pushed"}, "w waits for the event pushed"),
        (
            "wait.started",
            {"step": "w", "kind": "run", "name": "", "run_id": "run_1"},
            "w waits for the end of run run_1",
        ),
        (
            "wait.started",
            {"step": "w", "kind": "run", "name": "step.failed", "run_id": "run_1"},
            "w waits for the event step.failed of run run_1",
        ),
        (
            "attempt.failed",
            {"step": "a", "attempt": 1, "status": "failed", "retry_at": 4_500, "finished_at": 2_000},
            "a attempt 1 failed; another follows in 2.5 s",
        ),
    ],
)
def test_an_event_is_told_in_the_words_of_documents(kind: str, data: dict[str, object], text: str) -> None:
    assert sentence(kind, data) == text


def test_a_value_stays_text_where_the_document_declares_a_string() -> None:
    declared = declared_in(GOOD.replace("steps:", "inputs: {a: string, b: {type: string}, c: integer}\n  steps:"))
    given = ["a=404", "b=true", "c=404", "d=404"]
    assert as_declared(given, inputs_of(given, None), declared) == {"a": "404", "b": "true", "c": 404, "d": 404}
    assert declared_in("no: [yaml") == {}


def test_a_conflict_names_what_to_look_at_where_something_can_be_looked_at() -> None:
    assert told(ConflictError("it is over"), "runs").endswith("-> look at it as it stands now: `headrace runs show`")
    assert told(ConflictError("it lives"), "workers") == "error: conflict: it lives"


def test_an_id_that_is_none_is_refused_before_anything_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("show", ""), ("retry", ""), ("cancel", ""), ("effects", "a/../b"), ("explain", "run one")):
        assert invoke(["runs", *arguments, "--url", "http://127.0.0.1:1", "--token", "t"]) == 2, arguments
        assert "is no id of a run" in " ".join(capsys.readouterr().err.split()), arguments
