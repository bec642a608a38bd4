"""Globs as people know them: `**` crosses folders, `*` and `?` do not, hidden names must be asked for (pure)."""

import fnmatch
import re
from collections.abc import Sequence
from typing import Final

from headrace.errors import ValidationError

ANY_FOLDERS: Final = "**"


class Glob:
    """A pattern over paths below a folder; raises ValidationError when it leads out of it."""

    def __init__(self, pattern: str) -> None:
        segments = [segment for segment in pattern.split("/") if segment not in {"", "."}]
        if pattern.startswith("/") or ".." in segments or not segments:
            message = f"{pattern!r} is no pattern below the file root"
            raise ValidationError(message, details={"pattern": pattern})
        self.pattern = pattern
        self.hidden = any(segment.startswith(".") for segment in segments)
        self._segments = [None if segment == ANY_FOLDERS else _Segment(segment) for segment in segments]

    def matches(self, path: str) -> bool:
        """Tell whether a path, written with `/`, matches as a whole."""
        places = self._skipping({0})
        for part in path.split("/"):
            places = self._skipping(set(self._after(places, part)))
            if not places:
                return False
        return len(self._segments) in places

    def _after(self, places: set[int], part: str) -> Sequence[int]:
        """Give the places in the pattern that may come after one more part of the path."""
        after: list[int] = []
        for place in places:
            if place == len(self._segments):
                continue
            segment = self._segments[place]
            if segment is None:
                if not part.startswith("."):
                    after += (place, place + 1) if place == len(self._segments) - 1 else (place,)
            elif segment.matches(part):
                after.append(place + 1)
        return after

    def _skipping(self, places: set[int]) -> set[int]:
        """Let `**` stand for no folder at all, but for the last one: a folder itself is no file."""
        for place in sorted(places):
            reached = place
            while reached < len(self._segments) - 1 and self._segments[reached] is None:
                reached += 1
                places.add(reached)
        return places


class _Segment:
    """One name of a pattern; a name that begins with a dot matches only where the pattern does too."""

    def __init__(self, text: str) -> None:
        self._hidden = text.startswith(".")
        self._expression = re.compile(fnmatch.translate(text))

    def matches(self, name: str) -> bool:
        """Tell whether a name matches."""
        return (self._hidden or not name.startswith(".")) and self._expression.match(name) is not None
