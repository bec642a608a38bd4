"""How long the stream of a key lives (pure). A simulated world has smaller bounds, so that its faults meet them."""

from typing import Final

import msgspec

from headrace.vocabulary import KEY_MOVED_PERMITS_MAX, KEY_MOVES_S, KEY_RESTS_S


class Bounds(msgspec.Struct, frozen=True):
    """After how long of nothing a key's stream ends, and how old one becomes, with how many requests, that is in use."""

    rests_s: float = KEY_RESTS_S
    moves_s: float = KEY_MOVES_S
    moved_permits: int = KEY_MOVED_PERMITS_MAX


USUAL: Final = Bounds()
