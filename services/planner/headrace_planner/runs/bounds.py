"""Bounds that only long runs meet (pure). What a run remembers does not depend on them: they may differ from host to host.

A simulated world has smaller ones, so that its faults reach what lies behind them.
"""

from typing import Final

import msgspec

from headrace.vocabulary import COMPENSATION_TIMEOUT_S, HANDED_BACK_AT_ONCE_MAX

ITEMS_A_PIECE: Final = 1_000


class Bounds(msgspec.Struct, frozen=True):
    """How many results of a map make a piece, how long all undoing may take, how often a try that came back goes out at once."""

    items_a_piece: int = ITEMS_A_PIECE
    undoing_s: float = COMPENSATION_TIMEOUT_S
    handed_back_at_once: int = HANDED_BACK_AT_ONCE_MAX


USUAL: Final = Bounds()
