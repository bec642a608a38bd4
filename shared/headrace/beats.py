"""Beats in parts: a worker that holds very much, or brings very many tools, says so in several messages.

Who hears them puts them together.
"""

import msgspec

from headrace.codec import encode
from headrace.vocabulary import MESSAGE_BYTES_MAX
from headrace.wire import Beat

PART_BYTES_MAX = MESSAGE_BYTES_MAX * 7 // 16
"""Holdings that one message names, and as much of tools; the rest of a message is for what else a beat says."""
WORKERS_MAX = 1_000
"""Beats that are gathered at once; a worker whose parts come while as many others' do is heard at its next beat."""


def messages(beat: Beat) -> list[bytes]:
    """Write a beat: one message, or as many as what it holds and brings needs."""
    whole = encode(beat)
    if len(whole) <= PART_BYTES_MAX:
        return [whole]
    holding, tools = _shares(beat.holding), _shares(beat.tools)
    count = max(len(holding), len(tools))
    first = msgspec.structs.replace(beat, holding=holding[0], tools=tools[0], parts=count)
    bodies = [encode(first)]
    for part in range(1, count):
        told = Beat(
            worker=beat.worker,
            service=beat.service,
            host=beat.host,
            pools=beat.pools,
            slots=beat.slots,
            holding=holding[part] if part < len(holding) else (),
            tools=tools[part] if part < len(tools) else (),
            at=beat.at,
            part=part,
            parts=count,
        )
        bodies.append(encode(told))
    return bodies


def _shares[T](told: tuple[T, ...]) -> list[tuple[T, ...]]:
    shares: list[list[T]] = [[]]
    size = 0
    for each in told:
        taken = len(msgspec.json.encode(each)) + 1
        if shares[-1] and size + taken > PART_BYTES_MAX:
            shares.append([])
            size = 0
        shares[-1].append(each)
        size += taken
    return [tuple(share) for share in shares]


class Gathered:
    """Beats whose parts are still coming, by worker. A connection brings them in order; one that lacks a part is none."""

    def __init__(self) -> None:
        self._begun: dict[str, list[Beat]] = {}

    def take(self, beat: Beat) -> Beat | None:
        """Take a beat or a part of one in; gives the beat once it is whole."""
        if beat.parts == 1:
            self._begun.pop(beat.worker, None)
            return beat
        if beat.part == 0:
            if len(self._begun) < WORKERS_MAX or beat.worker in self._begun:
                self._begun[beat.worker] = [beat]
            return None
        known = self._begun.get(beat.worker, [])
        if len(known) != beat.part or known[0].at != beat.at or known[0].parts != beat.parts:
            self._begun.pop(beat.worker, None)
            return None
        known.append(beat)
        if len(known) < beat.parts:
            return None
        del self._begun[beat.worker]
        holding = tuple(held for part in known for held in part.holding)
        tools = tuple(tool for part in known for tool in part.tools)
        return msgspec.structs.replace(known[0], holding=holding, tools=tools, parts=1)
