"""Values kept for their next use, bounded in bytes. Must not import a backend."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The values last asked for, of at most `limit` bytes together; the last one is kept whatever its size.

    `hits` and `misses` count what `get` found and what it made.
    """

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        self.limit = limit
        self.hits, self.misses = 0, 0
        self._size = size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._sizes: dict[Hashable, int] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made if it is not here."""
        value = self.take(key)
        if value is None:
            self.misses += 1
            value = make()
        else:
            self.hits += 1
        self.put(key, value)
        return value

    def take(self, key: Hashable) -> Value | None:
        """The value of a key, which is not here any more afterwards; None if it was not."""
        self._sizes.pop(key, None)
        return self._values.pop(key, None)

    def put(self, key: Hashable, value: Value) -> None:
        """Keep a value, in the place of another one of that key, and let go of the oldest beyond the limit."""
        self.take(key)
        self._values[key], self._sizes[key] = value, self._size(value)
        while len(self._values) > 1 and self.bytes > self.limit:
            self.take(next(iter(self._values)))

    def clear(self) -> None:
        """Let go of all."""
        self._values.clear()
        self._sizes.clear()

    @property
    def bytes(self) -> int:
        """Of all values."""
        return sum(self._sizes.values())

    def __len__(self) -> int:
        return len(self._values)
