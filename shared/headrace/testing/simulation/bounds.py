"""Smaller bounds for a simulated world: what otherwise only long runs and long hours meet, its faults reach too."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from headrace.testing.simulation.sharing import share_plans
from headrace.vocabulary import LOG_FLOW, LOG_RUNS

SMALL: Final = {
    LOG_RUNS: {"items_a_piece": 4, "undoing_s": 30.0, "handed_back_at_once": 1},
    LOG_FLOW: {"rests_s": 5.0, "moves_s": 8.0},
}


def bounded(rooms: Sequence[Any]) -> Sequence[Any]:
    """Give rooms whose runs and keys have small bounds, and which read each plan once a process."""
    for room in rooms:
        if room.log in SMALL:
            room.bounds = msgspec.structs.replace(room.bounds, **SMALL[room.log])
        if room.log == LOG_RUNS:
            share_plans(room)
    return rooms
