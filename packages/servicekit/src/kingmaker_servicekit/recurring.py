"""A bounded memory for what comes again: something is remembered only when it is met a second time.

What comes once and never again (a head with a trace id in it, a body with a client's own id) costs a number in a set.
"""

from typing import Final, Generic, TypeVar

Value = TypeVar("Value")
_MOST_MET_ONCE: Final = 4096


class Recurring(dict[bytes, Value], Generic[Value]):
    """Values by the bytes they were worked out of. most: how many are kept, longest: of which size; a full one is
    emptied, for nobody counts who was asked for last."""

    def __init__(self, most: int, longest: int) -> None:
        super().__init__()
        self._most = most
        self._longest = longest
        self._met_once: set[int] = set()

    def is_worth_it(self, key: bytes) -> bool:
        """Whether this key was met before and is short enough; it is counted as met now."""
        mark = hash(key)
        if mark in self._met_once:
            return len(key) <= self._longest
        if len(self._met_once) >= _MOST_MET_ONCE:
            self._met_once.clear()
        self._met_once.add(mark)
        return False

    def keep(self, key: bytes, value: Value) -> None:
        if len(self) >= self._most:
            self.clear()
        self[key] = value
