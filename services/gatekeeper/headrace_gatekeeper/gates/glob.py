"""Glob patterns over recorded paths (pure).

The rules are those of VOCABULARY "Gates": `**` as a whole segment crosses folders (none as well), `*` and `?` stay
within one, `[…]` is a set of letters, and a pattern without `/` matches the file name at any depth. Matching walks
segments, so that no pattern takes more than |pattern| x |path| steps.
"""

import fnmatch
import re
from functools import lru_cache
from typing import Final

PATTERN_CHARS_MAX: Final = 1_000
CROSSING: Final = "**"


def matches(pattern: str, path: str) -> bool:
    """Tell whether a path (`/` between folders) is one that the pattern means. Letters' case counts."""
    segments = pattern.removeprefix("./").split("/")
    names = path.removeprefix("./").split("/")
    if len(segments) == 1 and segments[0] != CROSSING:
        return _segment(segments[0]).match(names[-1]) is not None
    if segments[-1] == CROSSING:
        segments.append("*")  # what `**` ends in is a file, of any name
    return _walk(segments, names)


def problem(pattern: str) -> str | None:
    """Say what is wrong with a pattern, or None."""
    if not pattern.strip():
        return "the pattern is empty"
    if len(pattern) > PATTERN_CHARS_MAX:
        return f"the pattern is longer than {PATTERN_CHARS_MAX} characters"
    if pattern.endswith("/"):
        return f"the pattern {pattern!r} names a folder; artifacts are files"
    return None


def _walk(segments: list[str], names: list[str]) -> bool:
    """Follow all ways through the pattern at once: the set of positions in it that the names so far can reach."""
    reached = _past_crossings(segments, {0})
    for name in names:
        following: set[int] = set()
        for place in reached:
            if place == len(segments):
                continue
            if segments[place] == CROSSING:
                following.add(place)
            elif _segment(segments[place]).match(name):
                following.add(place + 1)
        reached = _past_crossings(segments, following)
    return len(segments) in reached


def _past_crossings(segments: list[str], places: set[int]) -> set[int]:
    """Add the positions reached by letting each `**` stand for no folder."""
    result = set(places)
    for start in places:
        place = start
        while place < len(segments) and segments[place] == CROSSING:
            place += 1
            result.add(place)
    return result


@lru_cache(maxsize=1_024)
def _segment(segment: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(segment))
