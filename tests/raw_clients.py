"""Clients that write their own bytes to a gateway, each over a connection of its own."""

import asyncio
import json
from typing import Any, Final

V1: Final = "/v1/models/flights:predict"
GOOD: Final = {"instances": [{"distance": 1400, "carrier": "UA"}]}


def request(body: Any, path: str = V1, **headers: str) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {len(raw)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


class Client:
    """One connection, spoken to byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, bench: Any) -> "Client":
        url = bench.client.base_url
        return cls(*await asyncio.open_connection(url.host, url.port))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body."""
        async with asyncio.timeout(10):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:-2])
            body = json.loads(await self._reader.readexactly(int(headers["content-length"])))
        return int(head[0].split()[1]), headers, body

    def has_nothing_more(self) -> bool:
        return not self._reader._buffer  # type: ignore[attr-defined]

    def close(self) -> None:
        self._writer.close()


async def together(bench: Any, requests: list[bytes]) -> list[tuple[int, dict[str, str], Any]]:
    """Their answers, each sent over a connection of its own before the gateway has read the first."""
    clients = [await Client.to(bench) for _ in requests]
    try:
        for client, data in zip(clients, requests, strict=True):
            client.send(data)
        return [await client.answer() for client in clients]
    finally:
        for client in clients:
            client.close()
