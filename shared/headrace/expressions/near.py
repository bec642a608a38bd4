"""The nearest known name, for messages about an unknown one (pure)."""

from collections.abc import Iterable
from difflib import get_close_matches

NAMES_SHOWN_MAX = 8
SIMILARITY_MIN = 0.6


def near(name: str, known: Iterable[str], similarity: float = SIMILARITY_MIN) -> str | None:
    """Give the known name that `name` most resembles, or None when none does."""
    by_plain = {one.lower().replace("_", "").replace("-", ""): one for one in sorted(known, reverse=True)}
    found = get_close_matches(name.lower().replace("_", "").replace("-", ""), by_plain, n=1, cutoff=similarity)
    return by_plain[found[0]] if found else None


def meant(name: str, known: Iterable[str], similarity: float = SIMILARITY_MIN) -> str:
    """Give the end of a sentence about a slip, `; did you mean x?`: nothing when no name is near, or this is known."""
    nearest = near(name, known, similarity)
    return "" if nearest is None or nearest == name else f"; did you mean {nearest}?"


def hint(name: str, known: Iterable[str]) -> str:
    """Give the end of a sentence about an unknown name: what was meant, or the names there are, or nothing."""
    names = sorted(known)
    slip = meant(name, names)
    if slip or not names:
        return slip
    more = ", …" if len(names) > NAMES_SHOWN_MAX else ""
    return f"; there are: {', '.join(names[:NAMES_SHOWN_MAX])}{more}"
