"""Look up names in a few threads of our own, one question at a time for each name.

A look-up cannot be called off: who stops waiting leaves a thread behind for as long as the system's resolver goes on,
which is up to a minute while name servers are silent. In the event loop's own threads such look-ups would pile up, and
whoever else needs one of those (to reach Redis by name, say) would wait behind them. So here a name that is being asked
for is not asked again: later askers get the same answer, and what waits is bounded by how many names there are. The
threads are daemons and not a ThreadPoolExecutor's, which Python joins at its end: one silent name server would keep the
process from ending.
"""

import asyncio
import logging
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

THREADS = 8
"""So many silent names hold up the others; a thread is only started when all before it are busy."""

Found = list[tuple[Any, ...]]
Query = tuple[Any, ...]
"""host, port, family, type, proto, flags."""


class _Question(NamedTuple):
    query: Query
    answer: "asyncio.Future[Found]"
    loop: asyncio.AbstractEventLoop


class Resolver:
    """Belongs to one event loop. look_up: blocks, and answers like socket.getaddrinfo; threads: at most."""

    def __init__(self, look_up: Callable[..., Found] = socket.getaddrinfo, threads: int = THREADS) -> None:
        self._look_up = look_up
        self._most = threads
        self._threads = 0
        self._under_way: dict[Query, asyncio.Future[Found]] = {}
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()

    async def getaddrinfo(  # noqa: PLR0917 - the event loop's, with its names
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Found:
        """Raises what look_up raises. To stop waiting stops nothing else."""
        query = (host, port, family, type, proto, flags)
        answer = self._under_way.get(query) or self._ask(query)
        if self._threads < min(self._most, len(self._under_way)):
            self._start_a_thread()
        return await asyncio.shield(answer)

    def close(self) -> None:
        """Let the threads go: idle ones now, the others when their look-up returns."""
        for _ in range(self._threads):
            self._questions.put(None)

    def _ask(self, query: Query) -> "asyncio.Future[Found]":
        loop = asyncio.get_running_loop()
        answer = self._under_way[query] = loop.create_future()
        self._questions.put(_Question(query, answer, loop))
        return answer

    def _start_a_thread(self) -> None:
        try:
            threading.Thread(target=self._work, name=f"resolver {self._threads + 1}", daemon=True).start()
        except RuntimeError as error:  # the process has as many as it may; whoever asks next tries again
            logger.warning("no thread to look names up", extra={"reason": str(error)})
        else:
            self._threads += 1

    def _work(self) -> None:
        """In a thread."""
        while (question := self._questions.get()) is not None:
            found: Found = []
            error: Exception | None = None
            try:
                found = self._look_up(*question.query)
            except Exception as fault:  # whatever it is, those who wait are to have it
                error = fault
            try:
                question.loop.call_soon_threadsafe(self._told, question, found, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _told(self, question: _Question, found: Found, error: Exception | None) -> None:
        del self._under_way[question.query]
        if question.answer.done():  # cancelled with everything else, as the loop ended
            return
        if error is None:
            question.answer.set_result(found)
        else:
            question.answer.set_exception(error)
            question.answer.exception()  # seen, even if nobody waits for it any more
