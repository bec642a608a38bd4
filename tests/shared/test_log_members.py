"""Documents are searched as they are written: what stands there is met, and nothing else."""

from itertools import permutations, product

import pytest

from headrace import codec
from headrace.errors import ValidationError
from headrace.log.rows import members

TEXTS = ["", *(one for size in (1, 2) for one in map("".join, product(',:}"a\\', repeat=size)))]
"""Every text of up to two of the characters that mean something in a document, and one that does not."""
SHORT = [text for text in TEXTS if len(text) < 2]


def asked(name: str) -> list[tuple[str, str, str]]:
    return [(text, *members({name: text})[0]) for text in SHORT]


@pytest.mark.parametrize("name", [one for one in TEXTS if one not in {",", ":"}])
def test_a_name_with_its_text_is_met_where_it_stands_and_nowhere_else(name: str) -> None:
    patterns = asked(name)
    for first, second in permutations({name, *SHORT}, 2):
        for texts in product(SHORT, repeat=2):
            document = dict(zip((first, second), texts, strict=True))
            written = codec.written(document)
            for text, start, later in patterns:
                assert (written.startswith(start) or later in written) == (document.get(name) == text), written


@pytest.mark.parametrize("name", [",", ":"])
def test_a_name_that_would_be_met_between_two_texts_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="rows cannot be found by the name"):
        members({name: "x"})
    other = ":" if name == "," else ","
    decoy = codec.written({"a": '",', ":": "x"} if name == "," else {"\\,": ":", ",": "x"})
    assert f',"{name}":"{other}"' in decoy, "met, though the document has no such text by that name"
