"""Read a body that comes through ASGI, but never keep more than is allowed, and not for ever.

A body that is too large is read on and thrown away, up to a bound: a client that is still sending does not
read, and would see a broken connection where the answer says what is wrong.
"""

import asyncio
from typing import Final

from fastapi import Request

from kingmaker_contracts.problems import Problem
from kingmaker_gateway.answers import too_large, unread_in_time

_THROWN_AWAY: Final = 32 * 1024 * 1024


class Unread(Problem):
    """The body was not read to its end, so the connection cannot be used again."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code, problem.message)


class BodyReader:
    """timeout_s: for the whole body."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    async def read(self, request: Request, limit: int) -> bytes:
        """Raises Problem, ClientDisconnect."""
        length = request.headers.get("content-length", "")
        announced = int(length) if length.isdigit() else 0
        if announced > limit + _THROWN_AWAY:
            raise Unread(too_large(limit))
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._timeout_s):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > limit + _THROWN_AWAY:
                        raise Unread(too_large(limit))
                    if size > limit or announced > limit:
                        chunks.clear()
                    else:
                        chunks.append(chunk)
        except TimeoutError:
            raise Unread(unread_in_time(self._timeout_s)) from None
        if size > limit:
            raise too_large(limit)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
