"""Bundles: several of `messages.Told` for one partition as one message, sealed and acknowledged once (pure)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

BUNDLE_MAX: Final = 256
BUNDLE_BYTES_MAX: Final = 256 * 1024


def bundle(told: Sequence[bytes]) -> bytes:
    """Give the body of the message that brings these; one alone is its own."""
    return told[0] if len(told) == 1 else b"[" + b",".join(told) + b"]"


def bundles(told: Iterable[bytes]) -> Iterator[bytes]:
    """Give the bodies of the messages that bring these, in order; what is over BUNDLE_BYTES_MAX alone goes alone."""
    taken: list[bytes] = []
    size = 0
    for one in told:
        if taken and (len(taken) >= BUNDLE_MAX or size + len(one) > BUNDLE_BYTES_MAX):
            yield bundle(taken)
            taken, size = [], 0
        taken.append(one)
        size += len(one) + 1
    if taken:
        yield bundle(taken)
