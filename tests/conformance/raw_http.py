"""Bytes over a socket, without a client's good manners: what is sent is exactly what the test says."""

import re
import socket
import time

PATIENCE_S = 20.0
"""Longer than any limit the services keep; a connection still open then hangs."""

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def exchange(address: str, pieces: list[bytes], *, end: bool = True) -> bytes:
    """All that comes back until the server closes, once the pieces and, if `end`, an end of stream were sent.

    Raises AssertionError when the server has not closed after PATIENCE_S.
    """
    host, port = address.rsplit(":", 1)
    deadline = time.monotonic() + PATIENCE_S
    received = bytearray()
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                sock.sendall(piece)
            if end:
                sock.shutdown(socket.SHUT_WR)
            while chunk := sock.recv(65536):
                received += chunk
                assert time.monotonic() < deadline, f"still answering: {bytes(received[-500:])!r}"
        except TimeoutError:
            raise AssertionError(f"hangs after {bytes(received[-500:])!r}") from None
        except OSError:
            pass  # reset, because our bytes were left unread: an answer too
    return bytes(received)


def statuses(received: bytes) -> list[int]:
    """Of every answer in what was received."""
    return [int(status) for status in _STATUS.findall(received)]


def check(received: bytes) -> None:
    """No fault of the server's own, and nothing of its insides. 501 and 505 say what a client may not use."""
    found = statuses(received)
    assert all(status < 500 or status in (501, 505) for status in found), received[:3000]
    assert found or not received, received[:3000]
    assert b"Traceback" not in received
    assert b'File "' not in received
