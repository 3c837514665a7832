"""Heads that came before: a client says the same head again and again, byte for byte, so it need not be parsed again.

httptools reads every head the first times it comes. One that a fast route took is remembered with what it said; the
same bytes mean the same. Only heads of whole, plain requests are remembered (HTTP/1.1, a Content-Length and no
Transfer-Encoding, a connection that stays), and only when they came twice: a client that writes something unique into
each head (a trace id) costs no memory. Bounded in number and size.
"""

from typing import Any, Final, NamedTuple

_MOST: Final = 512
_MOST_MET_ONCE: Final = 4096
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


class Heads(dict[bytes, Head]):
    """By the bytes of the head, its empty line included."""

    def __init__(self) -> None:
        super().__init__()
        self._met_once: set[int] = set()

    def met(  # noqa: PLR0917  by position: keywords cost
        self, raw: bytes, method: bytes, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], length: int
    ) -> None:
        """httptools has read a whole request out of `raw` and a body of `length` bytes: nothing before, nothing
        behind; its connection stays open."""
        mark = hash(raw)
        if mark not in self._met_once:
            if len(self._met_once) >= _MOST_MET_ONCE:
                self._met_once.clear()
            self._met_once.add(mark)
        elif _is_plain(raw, headers, length):
            if len(self) >= _MOST:
                self.clear()
            self[raw] = Head(method, path, query, headers, length, {})


def _is_plain(raw: bytes, headers: list[tuple[bytes, bytes]], length: int) -> bool:
    if len(raw) > _LONGEST or raw.find(END) != len(raw) - len(END):
        return False
    if not raw[: raw.find(b"\r\n")].endswith(b" HTTP/1.1"):
        return False
    lengths = [value for name, value in headers if name == b"content-length"]
    return lengths == [b"%d" % length] and all(name not in (b"transfer-encoding", b"upgrade") for name, _ in headers)
