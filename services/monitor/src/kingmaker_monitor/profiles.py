"""Profiles by their sha256: fetched once, kept in the state file, so that a restart without Redis can still judge.

In memory are those in use. Half a megabyte each is little, but a model that is trained every night leaves one a day,
and its labels may come a month later: one that nobody has asked for in an hour rests in the file until somebody asks.
"""

import logging
from collections.abc import Callable, Iterable

from kingmaker_contracts.profile import Profile, sha256_of
from kingmaker_contracts.wire import BadRecord, read_json
from kingmaker_monitor.binning import Binning, of_profile

logger = logging.getLogger(__name__)

RETRY_S = 5.0
"""A profile that was not there is asked for again after this long."""


IDLE_S = 3600.0


class Profiles:
    """Bins by sha256 of the profile. clock: monotonic seconds. All but `missing` is called in one thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[str, Binning] = {}
        self._used: dict[str, float] = {}
        self._absent: dict[str, float] = {}
        self._resting: set[str] = set()
        self._stored: Callable[[str], bytes | None] = lambda _: None

    def rest_in(self, stored: Callable[[str], bytes | None], names: Iterable[str]) -> None:
        """names: what `stored` has the bytes of; it is asked when one of them is."""
        self._stored = stored
        self._resting.update(name for name in names if name not in self._known)

    def get(self, sha256: str) -> Binning | None:
        if sha256 in self._resting:
            self._resting.discard(sha256)
            self.learn(sha256, self._stored(sha256))
        found = self._known.get(sha256)
        if found is not None:
            self._used[sha256] = self._clock()
        return found

    def unlearn(self, sha256: str) -> None:
        """What came of learning it could not be written: it is to be fetched again."""
        self._known.pop(sha256, None)
        self._used.pop(sha256, None)

    def rest(self) -> None:
        """Let go of what nobody has asked for lately and the file has."""
        for sha256, used in list(self._used.items()):
            if self._clock() - used > IDLE_S and self._stored(sha256) is not None:
                self._resting.add(sha256)
                del self._known[sha256], self._used[sha256]

    @property
    def in_use(self) -> list[str]:
        """Those somebody has asked for lately."""
        return list(self._known)

    def forget(self, gone: Iterable[str]) -> None:
        """They have left the file. One that is asked for again is fetched."""
        self._resting.difference_update(gone)

    def missing(self, sha256: str) -> bool:
        """Whether this profile should be fetched now."""
        if not sha256 or sha256 in self._known or sha256 in self._resting:
            return False
        return self._clock() - self._absent.get(sha256, -RETRY_S) >= RETRY_S

    def learn(self, sha256: str, raw: bytes | None) -> bool:
        """Take in what was stored under that name; False when it is no usable profile."""
        reason = "not there" if raw is None else "content does not match its name"
        if raw is not None and sha256_of(raw) == sha256:
            try:
                self._known[sha256] = of_profile(read_json(raw, Profile))
                self._used[sha256] = self._clock()
                self._absent.pop(sha256, None)
                return True
            except BadRecord as error:
                reason = str(error)
        if sha256 not in self._absent:
            logger.warning("profile missing, no drift and no quality", extra={"sha256": sha256, "reason": reason})
        self._absent[sha256] = self._clock()
        return False
