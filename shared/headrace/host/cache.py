"""A least-recently-used cache bounded by entries and by weight."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

STATES_MAX: Final = 20_000
STATES_BYTES_MAX: Final = 256 * 1024 * 1024


class WeightedCache[Key, Value]:
    """Keeps what was used last. Nothing leaves by itself: `trim` lets the oldest go that may go."""

    def __init__(self, *, entries_max: int, weight_max: int) -> None:
        self._entries_max = entries_max
        self._weight_max = weight_max
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._weights: dict[Key, int] = {}
        self._weight = 0
        self._used: dict[Key, int] = {}
        self._age = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def __iter__(self) -> Iterator[Key]:
        return iter(self._kept)

    @property
    def full(self) -> bool:
        """Tell whether it is over its bounds."""
        return self._weight > self._weight_max or len(self._kept) > self._entries_max

    def get(self, key: Key) -> Value | None:
        """Give a value and mark it as used."""
        value = self._kept.get(key)
        if value is not None:
            self._kept.move_to_end(key)
            self._used[key] = self._age
        return value

    def put(self, key: Key, value: Value, weight: int) -> None:
        """Keep a value of a weight (bytes), as the one used last."""
        self._weight += weight - self._weights.get(key, 0)
        self._weights[key] = weight
        self._kept[key] = value
        self._kept.move_to_end(key)
        self._used[key] = self._age

    def pop(self, key: Key) -> Value | None:
        """Let a value go."""
        self._weight -= self._weights.pop(key, 0)
        self._used.pop(key, None)
        return self._kept.pop(key, None)

    def drop(self, unwanted: Callable[[Value], bool]) -> None:
        """Let all go that are unwanted."""
        for key in [key for key, value in self._kept.items() if unwanted(value)]:
            self.pop(key)

    def trim(self, may_go: Callable[[Value], bool]) -> list[tuple[Key, Value]]:
        """Let the oldest go until the bounds hold; gives what left. What may not go stays, over the bounds if need be."""
        gone: list[tuple[Key, Value]] = []
        if not self.full:
            return gone
        excess, weight = len(self._kept) - self._entries_max, self._weight
        for key, value in self._kept.items():
            if excess <= 0 and weight <= self._weight_max:
                break
            if may_go(value):
                gone.append((key, value))
                excess, weight = excess - 1, weight - self._weights[key]
        for key, _ in gone:
            self.pop(key)
        return gone

    def grow_old(self, may_go: Callable[[Value], bool], at_most: int) -> list[tuple[Key, Value]]:
        """Let some go, the oldest first, that nobody has used since the call before the last; gives what left."""
        self._age += 1
        gone: list[tuple[Key, Value]] = []
        for key, value in self._kept.items():
            if self._used[key] > self._age - 2 or len(gone) >= at_most:
                break
            if may_go(value):
                gone.append((key, value))
        for key, _ in gone:
            self.pop(key)
        return gone
