"""What goes wrong on purpose: refused and lost requests, dropped and half-open watches, and a record of requests."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple


class Request(NamedTuple):
    """One request as it was answered. code 0: the connection was closed instead. took_s until the answer began."""

    verb: str
    path: str
    query: dict[str, str]
    agent: str
    code: int
    at: float
    took_s: float


How = Literal["answer", "drop before", "drop after", "hang", "hang after"]


@dataclass
class Trouble:
    """What to do with requests that match: answer `code`; or, with code 0, close the connection, before or after
    the request was carried out; or hang, until `clear` is called, before or after it was carried out. times: how
    many more requests it strikes."""

    matches: Callable[[str, str], bool]
    times: int = 1
    code: int = 503
    how: How = "answer"
    retry_after_s: int | None = None


@dataclass
class Faults:
    """Switches of one server; all of them may be used while it runs.

    latency_s: every answer waits as long. half_open: watches send nothing more, and do not end either; watches
    that begin while it is on are frozen from the start. longest_watch_s: watches that begin now end after so long, in
    good order.
    """

    latency_s: float = 0.0
    half_open: bool = False
    longest_watch_s: float = math.inf
    requests: list[Request] = field(default_factory=list)
    bookmark_every_s: float = 60.0
    _troubles: list[Trouble] = field(default_factory=list)
    _drops: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)

    def trouble(
        self,
        verb: str = "",
        path: str = "",
        *,
        times: int = 1,
        code: int = 503,
        how: How = "answer",
        retry_after_s: int | None = None,
    ) -> Trouble:
        """Strike requests whose verb is `verb` and whose path contains `path` (empty: any)."""
        matches = lambda v, p: (not verb or v == verb) and path in p  # noqa: E731
        trouble = Trouble(matches, times, code, how, retry_after_s)
        with self._lock:
            self._troubles.append(trouble)
        return trouble

    def strikes(self, verb: str, path: str) -> Trouble | None:
        with self._lock:
            for trouble in self._troubles:
                if trouble.times > 0 and trouble.matches(verb, path):
                    trouble.times -= 1
                    return trouble
        return None

    def drop_watches(self) -> None:
        """Close the connection of every watch there is."""
        with self._lock:
            self._drops += 1

    @property
    def drops(self) -> int:
        return self._drops

    def clear(self) -> None:
        with self._lock:
            self._troubles.clear()
        self.latency_s, self.half_open, self.longest_watch_s = 0.0, False, math.inf
        self.released.set()
        self.released = threading.Event()

    def note(self, verb: str, path: str, query: dict[str, str], agent: str, code: int, began: float) -> None:
        now = time.monotonic()
        with self._lock:
            self.requests.append(Request(verb, path, query, agent, code, began, now - began))

    def seen(self, verb: str = "", path: str = "", agent: str = "") -> list[Request]:
        """Requests so far whose verb is `verb` and whose path and user agent contain these."""
        with self._lock:
            kept = list(self.requests)
        return [r for r in kept if (not verb or r.verb == verb) and path in r.path and agent in r.agent]
