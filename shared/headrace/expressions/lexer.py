"""CEL's tokens, as far as references, macros and the end of a template's expression need them (pure).

The grammar is the one of https://github.com/google/cel-spec/blob/master/doc/langdef.md. The library parses; this tells
which names an expression refers to before it is evaluated, which the library does not (it does not know scopes).
"""

import re
from typing import Final, NamedTuple

from headrace.errors import ValidationError

OPENING: Final = {"(": ")", "[": "]", "{": "}"}
CLOSING: Final = frozenset(OPENING.values())

_STRING: Final = r"""
    (?: [rR][bB]? | [bB][rR]? )?
    (?: \"\"\" (?s:.)*? (?<!\\) \"\"\" | ''' (?s:.)*? (?<!\\) ''' | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
"""
_TOKEN: Final = re.compile(
    rf"""
    (?P<space> \s+ | //[^\n]* )
  | (?P<string> {_STRING} )
  | (?P<number> 0[xX][0-9a-fA-F]+[uU]? | (?: \d+ (?:\.\d+)? | \.\d+ ) (?:[eE][+-]?\d+)? [uU]? )
  | (?P<name> [_a-zA-Z][_a-zA-Z0-9]* )
  | (?P<sign> \|\| | && | [<>=!]= | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)


class Token(NamedTuple):
    """A piece of an expression: its sort (string, number, name, sign), its text, and where it begins."""

    sort: str
    text: str
    start: int


def tokens(text: str) -> list[Token]:
    """Cut an expression into tokens, without spaces and comments."""
    return [
        Token(found.lastgroup or "sign", found[0], found.start())
        for found in _TOKEN.finditer(text)
        if found.lastgroup != "space"
    ]


def end_of_expression(text: str, start: int) -> int:
    """Give where the `}}` stands that closes the `{{` before `start`; raises ValidationError when there is none.

    Braces of map literals and anything inside strings do not close it.
    """
    depth = 0
    position = start
    while position < len(text):
        found = _TOKEN.match(text, position)
        assert found is not None, "the last alternative matches any character"
        if depth == 0 and text.startswith("}}", position):
            return position
        if found["sign"] in OPENING:
            depth += 1
        elif found["sign"] in CLOSING:
            depth -= 1
        position = found.end()
    message = f"{{{{ is never closed by }}}} in: {text}"
    raise ValidationError(message, details={"expression": text})


def string_value(token: Token) -> str | None:
    """Give the text that a plain or raw string literal stands for; None for bytes and triple quotes."""
    text = token.text
    raw = text[0] in "rR"
    text = text[1:] if raw else text
    if text[:1] not in "'\"" or text.startswith(("'''", '"""')):
        return None
    return text[1:-1] if raw else _ESCAPE.sub(_unescaped, text[1:-1])


def _unescaped(found: re.Match[str]) -> str:
    for group, base in ((1, 16), (2, 16), (3, 16), (4, 8)):
        if found[group]:
            return chr(int(found[group], base))
    return _ESCAPES.get(found[5], found[5])
