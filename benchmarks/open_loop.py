"""Requests at a fixed rate from one spinning process: `python -m benchmarks.open_loop URL POOL RATE SECONDS`.

Latency counts from the moment a request was due, so a server that stalls cannot hide the requests it kept from
being sent. It spins on a core of its own, because timers of an event loop are a millisecond coarse. Every answer
is compared with ONNX Runtime's.
"""

import collections
import json
import math
import select
import socket
import sys
import time
import urllib.parse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

CONNECTIONS: Final = 64
TOLERANCE: Final = 1e-6
_GRACE_S: Final = 5.0


@dataclass(slots=True)
class Told:
    """failed: due but never answered, or answered without 200."""

    answered: int = 0
    wrong: int = 0
    failed: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0


@dataclass(slots=True, eq=False)
class _Line:
    """One connection: row and due time of the request it carries."""

    sock: socket.socket
    row: int = -1
    due: float = 0.0
    buffer: bytes = b""


def percentile(values: list[float], share: float) -> float:
    """Nearest rank: the smallest value that at least `share` of the values do not exceed. 0.0 for none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def split_answer(buffer: bytes) -> tuple[int, bytes] | None:
    """Status and body of a whole HTTP answer with a length; None while it is incomplete. Raises ValueError."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = buffer[: end + 2].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise ValueError(f"an answer without a length: {buffer[:200]!r}")
    length = int(head[at + 17 : head.index(b"\r\n", at + 2)])
    if len(buffer) < end + 4 + length:
        return None
    return int(buffer[9:12]), buffer[end + 4 : end + 4 + length]


def is_right(body: bytes, expected: list[float]) -> bool:
    """Whether `probabilities` of one row are the expected two."""
    try:
        outputs = {output["name"]: output["data"] for output in json.loads(body)["outputs"]}
        found = outputs["probabilities"]
        flat = found[0] if isinstance(found[0], list) else found
        return len(flat) == len(expected) and all(abs(a - b) <= TOLERANCE for a, b in zip(flat, expected, strict=True))
    except (ValueError, KeyError, TypeError, IndexError):
        return False


def ask(url: str, bodies: list[str], answers: list[list[float]], rate: float, seconds: float) -> Told:
    """Raises OSError when the server cannot be reached, ValueError for an answer without a length."""
    parts = urllib.parse.urlsplit(url)
    requests = [_request(parts.netloc, parts.path, body.encode()) for body in bodies]
    poll = select.epoll()
    lines: dict[int, _Line] = {}
    for _ in range(CONNECTIONS):
        sock = socket.create_connection((parts.hostname or "", parts.port or 80))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        lines[sock.fileno()] = _Line(sock)
        poll.register(sock, select.EPOLLIN)
    idle = collections.deque(lines.values())
    waiting: collections.deque[tuple[int, float]] = collections.deque()
    told, latencies = Told(), []
    total, sent = round(rate * seconds), 0
    began = time.perf_counter() + 0.01
    end = began + seconds + _GRACE_S
    while told.answered + told.failed < total and (now := time.perf_counter()) < end and lines:
        while sent < total and now >= began + sent / rate:
            waiting.append((sent % len(requests), began + sent / rate))
            sent += 1
        while waiting and idle:
            line = idle.popleft()
            line.row, line.due = waiting.popleft()
            line.sock.send(requests[line.row])
        for fd, _ in poll.poll(0):
            line = lines[fd]
            data = line.sock.recv(65536)
            if not data:
                told.failed += line.row >= 0
                poll.unregister(fd)
                lines.pop(fd).sock.close()
                if line in idle:
                    idle.remove(line)
                continue
            line.buffer += data
            answer = split_answer(line.buffer)
            if answer is not None:
                status, body = answer
                latencies.append((time.perf_counter() - line.due) * 1e3)
                told.answered += status == 200
                told.failed += status != 200
                told.wrong += status == 200 and not is_right(body, answers[line.row])
                line.buffer, line.row = b"", -1
                idle.append(line)
    told.failed = total - told.answered
    told.p50_ms, told.p99_ms = percentile(latencies, 0.5), percentile(latencies, 0.99)
    for line in lines.values():
        line.sock.close()
    return told


def _request(host: str, path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def main() -> None:
    url, pool, rate, seconds = sys.argv[1:]
    known = json.loads(Path(pool).read_text())
    print(json.dumps(asdict(ask(url, known["bodies"], known["answers"], float(rate), float(seconds)))))


if __name__ == "__main__":
    main()
