"""What a process writes to its log: one line a message, whatever somebody sent."""

import json
import subprocess
import sys

import pytest

from headrace.logs import MESSAGE_CHARS_MAX

SAY = """
import logging, sys
from headrace.logs import configure_logging
configure_logging("planner", "info")
logging.getLogger("somewhere").warning("refused: %s", sys.argv[1] * int(sys.argv[2]))
"""


@pytest.mark.parametrize(("text", "times"), [("x", 2_000_000), ("a line\n", 100_000)])
def test_a_message_that_quotes_too_much_is_cut_and_says_so(text: str, times: int) -> None:
    said = subprocess.run([sys.executable, "-c", SAY, text, str(times)], check=True, capture_output=True, text=True)
    (line,) = said.stderr.splitlines()
    message = json.loads(line)["message"]
    assert message.startswith(f"refused: {text}")
    assert message.endswith(f"… ({len('refused: ') + len(text) * times} characters)")
    assert len(message) < MESSAGE_CHARS_MAX + 40


def test_a_message_of_usual_length_is_written_whole() -> None:
    said = subprocess.run([sys.executable, "-c", SAY, "x", "1000"], check=True, capture_output=True, text=True)
    assert json.loads(said.stderr)["message"] == "refused: " + "x" * 1000
