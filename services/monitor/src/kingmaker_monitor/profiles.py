"""Profiles by their sha256: fetched once, kept in the state file, so that a restart without Redis can still judge."""

import logging
from collections.abc import Callable

from kingmaker_contracts.profile import Profile, sha256_of
from kingmaker_contracts.wire import BadRecord, read_json
from kingmaker_monitor.binning import Binning, of_profile

logger = logging.getLogger(__name__)

RETRY_S = 5.0
"""A profile that was not there is asked for again after this long."""


class Profiles:
    """Bins by sha256 of the profile."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[str, Binning] = {}
        self._absent: dict[str, float] = {}

    def get(self, sha256: str) -> Binning | None:
        return self._known.get(sha256)

    def missing(self, sha256: str) -> bool:
        """Whether this profile should be fetched now."""
        if not sha256 or sha256 in self._known:
            return False
        return self._clock() - self._absent.get(sha256, -RETRY_S) >= RETRY_S

    def learn(self, sha256: str, raw: bytes | None) -> bool:
        """Take in what was stored under that name; False when it is no usable profile."""
        reason = "not there" if raw is None else "content does not match its name"
        if raw is not None and sha256_of(raw) == sha256:
            try:
                self._known[sha256] = of_profile(read_json(raw, Profile))
                self._absent.pop(sha256, None)
                return True
            except BadRecord as error:
                reason = str(error)
        if sha256 not in self._absent:
            logger.warning("profile missing, no drift and no quality", extra={"sha256": sha256, "reason": reason})
        self._absent[sha256] = self._clock()
        return False
