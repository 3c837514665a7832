"""The bytes of a call to a model server: its HTTP head and a frame's body.

All but the values is nearly always the same for the same number of rows, so it is written once and remembered. Pure.
"""

from typing import Final

from kingmaker_gateway.frames import Body

_START: Final = (
    b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/octet-stream\r\n"
    b"x-kingmaker-timeout-ms: %b\r\ncontent-length: %d\r\ninference-header-content-length: %d\r\n\r\n%b"
)
_LEFT_MS: Final = [b"%d" % 2**n for n in range(24)]
"""What a server is told of the time left: powers of two, so that nearly all heads are alike and need not be parsed
again. Rounded up, for a server is to stop late rather than early."""
_MOST_S: Final = 2**23 / 1000
_MOST_STARTS: Final = 1024
_LONGEST_START: Final = 4096


class Calls:
    """To one variant. path: of its infer calls."""

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._starts: dict[tuple[bytes, bytes, bytes], bytes] = {}

    def infer(self, host: bytes, left_s: float, body: Body) -> bytes:
        """left_s: until nobody waits for the answer any more."""
        left = _LEFT_MS[int(left_s * 1000).bit_length()] if 0 < left_s < _MOST_S else b"%d" % max(1, left_s * 1000)
        start = self._starts.get((host, left, body.head))  # a body's head says how many bytes follow
        if start is None:
            start = self._start(host, left, body)
        return start + body.raw

    def _start(self, host: bytes, left: bytes, body: Body) -> bytes:
        size = len(body.head)
        start = _START % (self._path, host, left, size + len(body.raw), size, body.head)
        if body.recurs and len(start) <= _LONGEST_START:
            if len(self._starts) >= _MOST_STARTS:
                self._starts.clear()
            self._starts[host, left, body.head] = start
        return start
