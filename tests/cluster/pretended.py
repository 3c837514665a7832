"""Pods that are only said to run, but for the one question the controller asks a model server."""

import asyncio
import json
import threading
from typing import Any

INPUTS = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]


class Pod:
    """One that is said to run. Its address is free again when it was stopped."""

    def __init__(self, server: asyncio.Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop

    def is_ready(self) -> bool:
        return True

    def trouble(self) -> None:
        return None

    def stop(self, grace_s: float) -> None:
        asyncio.run_coroutine_threadsafe(_end(self._server), self._loop).result(grace_s + 5)


async def _end(server: asyncio.Server) -> None:
    server.close()


class Answers:
    """Answers GET /v2/models/NAME on port 8080 of addresses as they are needed, for model servers that do not run."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._pods: list[Pod] = []
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def start(self, pod: dict[str, Any]) -> Pod:
        address = pod["status"]["podIP"]
        version = pod["metadata"]["annotations"]["kingmaker.dev/version"]
        server = asyncio.run_coroutine_threadsafe(self._serve(address, version), self._loop).result()
        self._pods.append(Pod(server, self._loop))
        return self._pods[-1]

    async def _serve(self, address: str, version: str) -> asyncio.Server:
        about: dict[str, Any] = {"name": "m", "platform": "onnx", "versions": [version]}
        about |= {"inputs": INPUTS, "outputs": []}
        about["properties"] = {"sha256": version * 64}
        body = json.dumps(about).encode()
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)

        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        return await asyncio.start_server(reply, address, 8080)

    def close(self) -> None:
        for pod in self._pods:
            pod.stop(0)
        self._loop.call_soon_threadsafe(self._loop.stop)
