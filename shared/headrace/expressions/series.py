"""A recorded list that is not in memory: its length is known, its items are brought when somebody asks (pure)."""

from collections.abc import Callable, Iterator
from typing import Any


class Series:
    """A list of `size` values. `at` gives one, `every` all in order; either may raise MissingError.

    Expressions count it, take one item of it, and go through it, without making a list of it; whatever else is done
    with it is done with the list that `whole` makes.
    """

    __slots__ = ("_at", "_every", "_size")

    def __init__(self, size: int, at: Callable[[int], Any], every: Callable[[], Iterator[Any]]) -> None:
        self._size = size
        self._at = at
        self._every = every

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return self._every()

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self._size:
            message = f"index {index} is out of bounds"
            raise IndexError(message)
        return self._at(index)


def whole(value: Any) -> Any:
    """Give a value that may be a series as the list that it stands for."""
    return list(value) if isinstance(value, Series) else value
