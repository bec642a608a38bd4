"""Watches the keys that many runs share: nobody holds what is taken, nothing begins beyond its rate."""

from collections.abc import Iterator
from typing import Any

import msgspec

from headrace.log.port import Recorded


class Key(msgspec.Struct):
    """A key as its events tell it: who asked with what limits, who holds it, what was given when (ms), told until when.

    `ended`: the stream in which it was used is over. `goes_on` is that stream when the next one must begin with its state.
    """

    asked: dict[str, dict[str, Any]] = {}
    held: set[str] = set()
    given: list[tuple[int, int]] = []
    told_at: int = 0
    ended: bool = False
    goes_on: str = ""


def see(key: Key, recorded: Recorded, data: dict[str, Any]) -> Iterator[str]:
    """Take the next event of a key in, of whichever of its streams."""
    if recorded.at < key.told_at:  # an owner's clock ran ahead: by it, a period was over that was not
        key.given.clear()
    key.told_at = recorded.at
    if recorded.type in {"flow.ended", "flow.continued"}:
        yield from _turn(key, recorded, data)
        return
    if recorded.version == 1:
        yield from _begins(key)
    permit = data["permit_id"]
    match recorded.type:
        case "flow.asked":
            key.asked[permit] = data
        case "flow.given" if permit not in key.asked:
            yield f"{permit} was given, and nobody asked for it"
        case "flow.given" if key.asked[permit]["kind"] == "rate_limit":
            yield from _rate(key, recorded.at, data.get("count", 1), key.asked[permit])
        case "flow.given":
            key.held.add(permit)
            limit = key.asked[permit]["limit"]
            if len(key.held) > limit:
                yield f"{len(key.held)} hold what {limit} may hold"
        case "flow.returned":
            key.held.discard(permit)
            key.asked.pop(permit, None)
        case _:
            pass


def _begins(key: Key) -> Iterator[str]:
    if key.goes_on or (key.given and not key.ended) or (key.asked and not key.ended):
        yield f"a stream begins with nothing while {len(key.asked)} ask and {len(key.held)} hold"
    key.ended = False


def _turn(key: Key, recorded: Recorded, data: dict[str, Any]) -> Iterator[str]:
    """See that a stream ends with nothing, or hands all of it to the next."""
    if recorded.type == "flow.ended":
        key.ended, key.goes_on = True, recorded.stream_id if data.get("goes_on") else ""
        if not key.goes_on and key.held:
            yield f"it ends while {len(key.held)} hold it"
        return
    before, held = key.goes_on, {permit for permit, _ in data.get("held", ())}
    key.ended, key.goes_on = False, ""
    if recorded.version != 1 or data["after"] != before:
        yield f"it goes on after {data['after']}, where {before or 'nothing'} ended"
    if held != key.held:
        yield f"it goes on with {sorted(held)}, where {sorted(key.held)} held it"


def _rate(key: Key, at: int, count: int, asked: dict[str, Any]) -> Iterator[str]:
    key.given.append((at, count))
    since = at - asked["period_ms"]
    begun = sum(number for when, number in key.given if when > since)
    if begun > asked["limit"]:
        yield f"{begun} were let begin within {asked['period_ms']} ms, where {asked['limit']} may"
