"""The command `python -m tests.chaos`: rounds of chaos over real processes. Exit code 0 passed, 1 failed, 3 void."""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from tests.chaos import schedule
from tests.chaos.round import Round, Told, table

CODES: Final = {"passed": 0, "failed": 1, "void": 3}
STORM_MINUTES: Final = 2.5
SHORT_MINUTES: Final = 0.4
EVERY_S: Final = 1.0


def main(arguments: list[str]) -> int:
    """Play a round and tell what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=STORM_MINUTES, help="how long things break")
    parser.add_argument("--short", action="store_true", help="half a minute with one fault of each family")
    parser.add_argument("--seed", type=int, default=None, help="which schedule; drawn and printed when not given")
    parser.add_argument("--schedule", type=Path, default=None, help="a schedule.jsonl to play instead")
    parser.add_argument("--every", type=float, default=EVERY_S, help="seconds from one run to the next, on average")
    parser.add_argument("--only", nargs="*", default=None, metavar="KIND", help="only these kinds of faults")
    parser.add_argument(
        "--other", type=Path, default=None, help="a checkout of another version, set up: programs take turns"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder of a round that passed, too")
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else secrets.randbelow(1_000_000)
    faults = schedule.load(given.schedule) if given.schedule else None
    kinds = tuple(given.only) if given.only is not None else schedule.SHORT if given.short else tuple(schedule.KINDS)
    minutes = SHORT_MINUTES if given.short else given.minutes
    folder = Path(tempfile.mkdtemp(prefix=f"headrace-chaos-{seed}-"))
    folder.chmod(0o755)
    say(f"round of seed {seed} in {folder}")
    other = given.other.resolve() if given.other else None
    told = played(
        Round(folder, seed, minutes * 60, every_s=given.every, faults=faults, kinds=kinds, other=other, say=say)
    )
    (folder / "told.json").write_bytes(msgspec.json.encode(told))
    say("\n" + table(told))
    say(f"{told.verdict.upper()}: seed {seed}")
    if told.verdict == "passed" and not given.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        say(f"logs, history, ledger and schedule: {folder}")
        say(f"again: python -m tests.chaos --minutes {minutes:g} --schedule {folder / 'schedule.jsonl'}")
    return CODES[told.verdict]


def played(one: Round) -> Told:
    """Play a round on the quickest loop there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(one.play())
    return uvloop.run(one.play())


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
