"""Smaller bounds for a simulated world: what otherwise only long runs and long hours meet, its faults reach too."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from headrace.vocabulary import LOG_FLOW, LOG_RUNS

SMALL: Final = {
    LOG_RUNS: {"items_a_piece": 4, "undoing_s": 30.0, "handed_back_at_once": 1},
    LOG_FLOW: {"rests_s": 5.0, "moves_s": 8.0},
}


def bounded(rooms: Sequence[Any]) -> Sequence[Any]:
    """Give rooms whose runs and keys have small bounds."""
    for room in rooms:
        if room.log in SMALL:
            room.bounds = msgspec.structs.replace(room.bounds, **SMALL[room.log])
    return rooms
