"""Let only clients with a token in: `Authorization: Bearer <token>` against a file that is read again when it changes.

A token is not compared with each that is known until one fits: its keyed hash is looked up. Who does not know the
key, which every process draws anew, learns nothing from how long that takes, and a thousand tokens cost no more than
one. A file that becomes unreadable changes nothing until it is right again.
"""

import asyncio
import hashlib
import logging
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway import tokens
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.settings import AuthSettings
from kingmaker_gateway.tokens import BadTokens

logger = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the file is looked at."""
_BEARER: Final = b"bearer "

Use = Literal["predict", "feedback"]


class Guard:
    """Of one use. Owns the task that follows the file."""

    def __init__(self, file: Path, use: Use, metrics: Metrics) -> None:
        """Raises BadTokens."""
        self._file = file
        self._use = use
        self._key = secrets.token_bytes(32)
        self._is_good = metrics.token_file_good.labels(use)
        self._stamp: tuple[int, int, int] | None = self._look()
        self._known = self._read()
        self._fault = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name=f"{self._use} tokens")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def check(self, authorization: bytes | None) -> None:
        """Raises Problem unless the header's value carries a known token."""
        if authorization is None:
            raise Problem(Code.UNAUTHORIZED, "no token was sent; expected the header Authorization: Bearer <token>")
        if authorization[:7].lower() != _BEARER:
            raise Problem(Code.UNAUTHORIZED, "Authorization is of another scheme; expected Bearer <token>")
        if self._hashed(authorization[7:].strip()) not in self._known:
            raise Problem(Code.UNAUTHORIZED, f"the token sent is none of those known here for {self._use}")

    def _hashed(self, token: bytes) -> bytes:
        return hashlib.blake2b(token, digest_size=16, key=self._key).digest()

    def _read(self) -> dict[bytes, str]:
        known = {self._hashed(token): name for token, name in tokens.read(self._file).items()}
        self._is_good.set(1)
        logger.info("tokens read", extra={"use": self._use, "clients": sorted(set(known.values()))})
        return known

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            stamp = self._look()
            if stamp == self._stamp:
                continue
            self._stamp = stamp
            try:
                self._known = self._read()
                self._fault = ""
            except BadTokens as error:
                self._stamp = None  # read again soon: what kept it from being opened need not show there when it ends
                self._is_good.set(0)
                told, self._fault = self._fault, str(error)
                if told != self._fault:
                    logger.warning(
                        "tokens not read, keeping those known", extra={"use": self._use, "reason": self._fault}
                    )

    def _look(self) -> tuple[int, int, int]:
        """What changes with the file. Kubernetes swaps a link above it."""
        try:
            found = self._file.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_ino, found.st_mtime_ns, found.st_size)


@dataclass(slots=True, frozen=True)
class Guards:
    """Who keeps strangers out of what; None: nobody."""

    predict: Guard | None = None
    feedback: Guard | None = None

    @classmethod
    def of(cls, settings: AuthSettings, metrics: Metrics) -> "Guards":
        """Raises BadTokens."""
        predict, feedback = settings.predict_tokens_file, settings.feedback_tokens_file
        return cls(
            None if predict is None else Guard(predict, "predict", metrics),
            None if feedback is None else Guard(feedback, "feedback", metrics),
        )

    def start(self) -> None:
        for guard in self._all:
            guard.start()

    async def close(self) -> None:
        for guard in self._all:
            await guard.close()

    @property
    def _all(self) -> list[Guard]:
        return [guard for guard in (self.predict, self.feedback) if guard is not None]
