"""Texts that match a regular expression, for the common ones (pure).

Read are literals, classes, groups, alternatives, anchors and quantifiers; what is beyond them gives None. Nothing is
taken on trust: a text is given only when Python's `re` finds the pattern in it.
"""

import re
from typing import Final

REPEATS_MAX: Final = 512
DIGITS: Final = "0123456789"
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
WORD: Final = LETTERS + LETTERS.upper() + DIGITS + "_"
PRINTABLE: Final = WORD + "-. /:@#%+,;=~!$&'()*<>?[]^{|}\"\\`"
SHORTHANDS: Final = {"d": DIGITS, "w": WORD, "s": " "}
CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_RANGE: Final = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")


class _UnreadError(Exception):
    """The pattern holds something that is not read here."""


class _Pattern:
    """One pass over a pattern; `extra` is how often more than needed an open quantifier repeats."""

    def __init__(self, pattern: str, extra: int) -> None:
        self._pattern = pattern
        self._extra = extra
        self._at = 0

    def text(self) -> str:
        made = self._alternatives()
        if self._at != len(self._pattern):
            raise _UnreadError
        return made

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self) -> str:
        sign = self._next()
        if not sign:
            raise _UnreadError
        self._at += 1
        return sign

    def _alternatives(self) -> str:
        first = self._sequence()
        while self._next() == "|":
            self._at += 1
            self._sequence()
        return first

    def _sequence(self) -> str:
        made = ""
        while self._next() not in {"", "|", ")"}:
            sign = self._take()
            if sign in "^$":
                continue
            if sign == "\\" and self._next() in {"A", "Z", "b"}:
                self._at += 1
                continue
            atom = self._atom(sign)
            made += atom * self._times()
        return made

    def _atom(self, sign: str) -> str:
        match sign:
            case "(":
                return self._group()
            case "[":
                return self._class()
            case ".":
                return "a"
            case "\\":
                return self._escaped()[0]
            case "*" | "+" | "?" | "{":
                raise _UnreadError
            case _:
                return sign

    def _group(self) -> str:
        if self._next() == "?":
            found = re.compile(r"\?(?::|P?<[A-Za-z_]\w*>)").match(self._pattern, self._at)
            if found is None:
                raise _UnreadError
            self._at = found.end()
        made = self._alternatives()
        if self._take() != ")":
            raise _UnreadError
        return made

    def _escaped(self) -> str:
        """Give the characters that an escape stands for."""
        sign = self._take()
        if sign in SHORTHANDS:
            return SHORTHANDS[sign]
        if sign.lower() in SHORTHANDS:
            return "".join(one for one in PRINTABLE if one not in SHORTHANDS[sign.lower()])
        if sign in CONTROLS:
            return CONTROLS[sign]
        if sign.isalnum():
            raise _UnreadError
        return sign

    def _class(self) -> str:
        without = self._next() == "^"
        self._at += without
        held, first = "", True
        while first or self._next() != "]":
            sign = self._take()
            chosen = self._escaped() if sign == "\\" else sign
            if self._next() == "-" and self._pattern[self._at + 1 : self._at + 2] not in {"", "]"} and len(chosen) == 1:
                self._at += 1
                end = self._take()
                last = self._escaped() if end == "\\" else end
                chosen = "".join(map(chr, range(ord(chosen), ord(last[0]) + 1)))
            held += chosen
            first = False
        self._at += 1
        allowed = [one for one in PRINTABLE if one not in held] if without else sorted(held, key=_plainest)
        if not allowed:
            raise _UnreadError
        return allowed[0]

    def _times(self) -> int:
        sign = self._next()
        least, most = 1, 1
        if sign and sign in "*+?":
            self._at += 1
            least, most = {"*": (0, REPEATS_MAX), "+": (1, REPEATS_MAX), "?": (0, 1)}[sign]
        elif found := _RANGE.match(self._pattern, self._at):
            self._at = found.end()
            least = int(found[1])
            most = least if found[2] is None else int(found[3] or REPEATS_MAX)
        else:
            return 1
        if self._next() == "?":
            self._at += 1
        return min(least + self._extra, max(most, least), REPEATS_MAX)


def _plainest(sign: str) -> tuple[int, str]:
    """Order letters before digits before the rest."""
    return (0 if sign.isalpha() else 1 if sign.isdigit() else 2, sign)


def matching(pattern: str, least: int, most: int | None) -> str | None:
    """Give a text of `least` to `most` characters in which the pattern is found; None when none comes to mind."""
    try:
        compiled = re.compile(pattern)
        made = [_Pattern(pattern, extra).text() for extra in (0, 1, 2, max(least - 1, 0), least)]
    except (_UnreadError, re.error, RecursionError):
        return None
    padded = [f"{text}{'a' * (least - len(text))}" for text in made] + ["a" * least]
    for text in (*made, *padded):
        if len(text) >= least and (most is None or len(text) <= most) and compiled.search(text):
            return text
    return None
