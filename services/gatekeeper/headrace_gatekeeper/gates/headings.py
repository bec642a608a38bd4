"""Headings of a markdown text (pure).

The rules are those of CommonMark (https://spec.commonmark.org/0.31.2/): ATX headings of one to six `#`, setext headings
underlined by `=` or `-`; what stands in a fenced code block is no heading.
"""

import re
from collections.abc import Iterator
from typing import Final

ATX: Final = re.compile(r" {0,3}#{1,6}(?=[ \t]|$)")
SETEXT: Final = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
FENCE: Final = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})(?P<info>.*)$")


def headings(text: str) -> Iterator[str]:
    """Give the titles of all headings of any level, in order, without their marks and without emphasis."""
    fence = ""
    before = ""
    for line in text.splitlines():
        mark = FENCE.match(line)
        if fence:
            closes = mark is not None and mark["fence"].startswith(fence) and not mark["info"].strip()
            fence = "" if closes else fence
            before = ""
        elif mark is not None:
            fence, before = mark["fence"], ""
        elif (atx := ATX.match(line)) is not None:
            yield plain(_unclosed(line[atx.end() :].strip()))
            before = ""
        elif before and SETEXT.match(line):
            yield plain(before)
            before = ""
        else:
            before = line.strip()


def plain(title: str) -> str:
    """Give a title as headings are compared: without emphasis and code marks, one space between words, case folded."""
    return " ".join(re.sub(r"[*_`]+", "", title).split()).casefold()


def _unclosed(title: str) -> str:
    """Take away the closing marks that an ATX heading may end in: `## Title ##`."""
    without = title.rstrip("#")
    return without.rstrip() if not without or without[-1] in " \t" else title
