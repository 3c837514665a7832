"""Pods that are only said to run, but for the one question the controller asks a model server."""

import asyncio
import json
import threading
from typing import Any

INPUTS = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]


class Answers:
    """Answers GET /v2/models/NAME on port 8080 of addresses as they are needed, for model servers that do not run."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._known: set[str] = set()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def start(self, pod: dict[str, Any]) -> "Answers":
        address = pod["status"]["podIP"]
        version = pod["metadata"]["annotations"]["kingmaker.dev/version"]
        asyncio.run_coroutine_threadsafe(self._serve(address, version), self._loop).result()
        return self

    async def _serve(self, address: str, version: str) -> None:
        about = {"name": "m", "platform": "onnx", "versions": [version], "inputs": INPUTS, "outputs": []}
        about["properties"] = {"sha256": version * 64}
        body = json.dumps(about).encode()
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)

        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        await asyncio.start_server(reply, address, 8080)

    def is_ready(self) -> bool:
        return True

    def trouble(self) -> None:
        return None

    def stop(self, grace_s: float) -> None:
        """Nothing runs."""

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
