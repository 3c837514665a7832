"""Heads that came before: a client says the same head again and again, byte for byte, so it need not be parsed again.

httptools reads every head the first times it comes. One that a fast route took is remembered with what it said; the
same bytes mean the same. Only heads of whole, plain requests are remembered: HTTP/1.1, a Content-Length and no
Transfer-Encoding, a connection that stays.
"""

from typing import Any, Final, NamedTuple

from kingmaker_servicekit.recurring import Recurring

_MOST: Final = 512
_LONGEST: Final = 4096
END: Final = b"\r\n\r\n"


class Head(NamedTuple):
    """What a request's head says. length: of its body; notes: see `Call.notes`."""

    method: bytes
    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    length: int
    notes: dict[Any, Any]


class Heads(Recurring[Head]):
    """By the bytes of the head, its empty line included."""

    def __init__(self) -> None:
        super().__init__(_MOST, _LONGEST)

    def met(  # noqa: PLR0917  by position: keywords cost
        self, raw: bytes, method: bytes, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], length: int
    ) -> None:
        """httptools has read a whole request out of `raw` and a body of `length` bytes: nothing before, nothing
        behind; its connection stays open."""
        if self.is_worth_it(raw) and _is_plain(raw, headers, length):
            self.keep(raw, Head(method, path, query, headers, length, {}))


def _is_plain(raw: bytes, headers: list[tuple[bytes, bytes]], length: int) -> bool:
    if raw.find(END) != len(raw) - len(END) or not raw[: raw.find(b"\r\n")].endswith(b" HTTP/1.1"):
        return False
    lengths = [value for name, value in headers if name == b"content-length"]
    return lengths == [b"%d" % length] and all(name not in (b"transfer-encoding", b"upgrade") for name, _ in headers)
