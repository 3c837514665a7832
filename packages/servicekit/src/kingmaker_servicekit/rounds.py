"""What arrives in one round of the event loop, handed over together at its end.

A request's way is longer than what the processor's nearest cache holds: where each goes to the end of it alone, the
next finds there what the last one needed last. A step that is taken for all requests of a round, and then the next
step, misses the cache a third less.

Nobody waits for company, and no timer runs: a round ends when what has arrived is read. What has arrived is looked for
twice, unless only one thing has come. Clients who were answered in a round ask again while it lasts; with one look they
fall into two halves that take turns for ever, each round serving the half the other left, and every frame and every run
of a model is half as full as it could be. The second look costs a system call that does not sleep.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Rounds(Generic[Item]):
    """serve: what to do with the items of a round, in the order they came; is_alone: whether they are one request.

    For one event loop: the one that runs when the first item comes.
    """

    def __init__(self, serve: Callable[[list[Item]], None], is_alone: Callable[[list[Item]], bool]) -> None:
        self._serve = serve
        self._is_alone = is_alone
        self._items: list[Item] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, item: Item) -> None:
        if not self._items:
            if self._loop is None:  # asking for it is a system call each time, and there is none yet where this is made
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._look)
        self._items.append(item)

    def _look(self) -> None:
        """The sockets have been read once since the first item came, and are once more before `_end` is called."""
        if self._is_alone(self._items):
            self._end()
        elif self._loop is not None:  # as it is once there are items, which a type checker cannot know
            self._loop.call_soon(self._end)

    def _end(self) -> None:
        items, self._items = self._items, []
        self._serve(items)
