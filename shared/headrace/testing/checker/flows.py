"""Watches the keys that many runs share: nobody holds what is taken, nothing begins beyond its rate."""

from collections.abc import Iterator
from typing import Any

import msgspec

from headrace.log.port import Recorded


class Key(msgspec.Struct):
    """A key as its events tell it: who asked with what limits, who holds it, what was given when (ms)."""

    asked: dict[str, dict[str, Any]] = {}
    held: set[str] = set()
    given: list[tuple[int, int]] = []


def see(key: Key, recorded: Recorded, data: dict[str, Any]) -> Iterator[str]:
    """Take the next event of a key in."""
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


def _rate(key: Key, at: int, count: int, asked: dict[str, Any]) -> Iterator[str]:
    key.given.append((at, count))
    since = at - asked["period_ms"]
    begun = sum(number for when, number in key.given if when > since)
    if begun > asked["limit"]:
        yield f"{begun} were let begin within {asked['period_ms']} ms, where {asked['limit']} may"
