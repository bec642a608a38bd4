"""Write docs/events.md from the events themselves: `python docs/make_events.py` (`--check` only compares)."""

import sys
from pathlib import Path

import msgspec

from headrace.events.base import Event
from headrace.events.registry import EVENTS
from headrace.vocabulary import LOG_PARTITIONS

PAGE = Path(__file__).with_name("events.md")
WRITERS = {"runs": "planner", "catalogue": "planner", "approvals": "gatekeeper", "flow": "planner"}
STREAMS = {"runs": "a run", "catalogue": "a definition", "approvals": "an approval", "flow": "a key that runs share"}
HEAD = """# Events

Made by `python docs/make_events.py` from `shared/headrace/events/`; a test holds the two together.

An event is an immutable fact. Its name is its tag in the log, in `headrace runs events`, and its `type` on the feed,
where every committed event is published as a CloudEvent. Fields marked `?` may be left out: they then have their
default. Times inside events are milliseconds since 1970.
"""


def page() -> str:
    """Give the whole page."""
    return "\n".join([HEAD, *(_log(name, kinds) for name, kinds in EVENTS.items())])


def _log(name: str, kinds: tuple[type[Event], ...]) -> str:
    about = f"Written by the {WRITERS[name]}. A stream is {STREAMS[name]}. Feed: `headrace.feed.{name}`."
    lines = [
        f"## Log `{name}`",
        "",
        f"{about} Partitions in a new database: {LOG_PARTITIONS[name]}.",
        "",
        "| event | class | | fields |",
        "| --- | --- | --- | --- |",
    ]
    return "\n".join([*lines, *(_row(kind) for kind in kinds), ""])


def _row(kind: type[Event]) -> str:
    says = " ".join((kind.__doc__ or "").split())
    fields = ", ".join(f"`{f.encode_name}`{'' if f.required else '?'}" for f in msgspec.structs.fields(kind)) or "none"
    return f"| `{kind.type_name()}` | {kind.__name__} | {says} | {fields} |"


def main(arguments: list[str]) -> int:
    """Write the page, or compare it; exit code 1 when it differs."""
    if "--check" not in arguments:
        PAGE.write_text(page())
        return 0
    same = PAGE.is_file() and PAGE.read_text() == page()
    sys.stdout.write("docs/events.md is up to date\n" if same else "docs/events.md: run `python docs/make_events.py`\n")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
