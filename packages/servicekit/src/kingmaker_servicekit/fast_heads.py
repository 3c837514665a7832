"""Heads that came before: a client says the same head again and again, byte for byte, so it need not be parsed again.

httptools reads every head the first times it comes. One that a fast route took is remembered with what it said; the
same bytes mean the same. Only heads of whole, plain requests are remembered: HTTP/1.1, a body with a Content-Length
and no Transfer-Encoding, a connection that stays. One without a body could not be told from its own beginning.
"""

from typing import Final

import msgspec

from kingmaker_servicekit.fast_call import Call, FastRoute, Handler, Head
from kingmaker_servicekit.recurring import Recurring

_MOST: Final = 512
_LONGEST: Final = 4096
END: Final = b"\r\n\r\n"


class Known(msgspec.Struct, eq=False, frozen=True):
    """A head that came before. length: of its body; handler: of the route it took, or what that route has for it."""

    head: Head
    length: int
    handler: Handler


class Heads(Recurring[Known]):
    """By the bytes of the head before END. To be cleared when routes change."""

    def __init__(self) -> None:
        super().__init__(_MOST, _LONGEST)

    def met(self, raw: bytes, call: Call, route: FastRoute) -> None:
        """httptools has read a whole request out of `raw` and its body: nothing before, nothing behind; its connection
        stays open."""
        head, length = call.head, len(call.body)
        if length and self.is_worth_it(raw) and head.method != b"HEAD" and _is_plain(raw, head.headers, length):
            kept = Head(head.method, head.path, head.query, head.headers, {})
            self.keep(raw, Known(kept, length, route.handler if route.handler_of is None else route.handler_of(kept)))


def _is_plain(raw: bytes, headers: list[tuple[bytes, bytes]], length: int) -> bool:
    if not raw.partition(b"\r\n")[0].endswith(b" HTTP/1.1"):
        return False
    lengths = [value for name, value in headers if name == b"content-length"]
    return lengths == [b"%d" % length] and all(name not in (b"transfer-encoding", b"upgrade") for name, _ in headers)
