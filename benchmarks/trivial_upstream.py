"""An upstream that costs next to nothing, so that what is measured is the hop in front of it.

`python -m benchmarks.trivial_upstream PORT MODEL WIDTH` answers the same probabilities for every row: raw
tensors to a call with raw tensors (a gateway's frame of rows, WIDTH floats each), JSON of one row to JSON.
"""

import asyncio
import sys
from typing import Final

import msgspec
import numpy as np
import uvloop

from benchmarks.answers import CONSTANT, constant_json
from kingmaker_contracts import tensors
from kingmaker_contracts.inference import InferResponse, Tensor

_MAX_KEPT: Final = 1024


class Answers:
    """Whole HTTP answers, made once for each number of rows."""

    def __init__(self, model: str, width: int) -> None:
        self._model = model
        self._row_bytes = 4 * width
        self._raw: dict[int, bytes] = {}
        self.json = _http(constant_json(model).encode(), "application/json")
        self.metadata = _http(
            msgspec.json.encode(
                {
                    "name": model,
                    "platform": "onnx_onnxv1",
                    "versions": ["1"],
                    "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, width]}],
                    "outputs": [
                        {"name": "label", "datatype": "INT64", "shape": [-1]},
                        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
                    ],
                }
            ),
            "application/json",
        )

    def raw(self, tensor_bytes: int) -> bytes:
        rows = tensor_bytes // self._row_bytes
        found = self._raw.get(rows)
        if found is None:
            outputs = [
                Tensor("label", "INT64", np.ones(rows, np.int64)),
                Tensor("probabilities", "FP32", np.tile(np.array(CONSTANT, np.float32), (rows, 1))),
            ]
            body, head = tensors.encode_response(
                InferResponse(self._model, outputs, "1"), frozenset({"label", "probabilities"})
            )
            found = _http(body, "application/octet-stream", f"inference-header-content-length: {head}\r\n")
            if len(self._raw) < _MAX_KEPT:
                self._raw[rows] = found
        return found


class Upstream(asyncio.Protocol):
    """Only well-formed requests with a length come here; pipelined ones are answered in order."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        out = []
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[: end + 2].lower()
            length = _number(head, b"\r\ncontent-length:") or 0
            whole = end + 4 + length
            if len(self._buffer) < whole:
                break
            self._buffer = self._buffer[whole:]
            json_bytes = _number(head, b"\r\ninference-header-content-length:")
            if head.startswith(b"get "):
                out.append(self._answers.metadata)
            elif json_bytes is None:
                out.append(self._answers.json)
            else:
                out.append(self._answers.raw(length - json_bytes))
        if out and self._transport is not None:
            self._transport.write(b"".join(out))


def _number(head: bytes, name: bytes) -> int | None:
    at = head.find(name)
    return None if at < 0 else int(head[at + len(name) : head.index(b"\r\n", at + 2)])


def _http(body: bytes, kind: str, more: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body


def main() -> None:
    port, model, width = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])

    async def serve() -> None:
        answers = Answers(model, width)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Upstream(answers), "127.0.0.1", port, backlog=2048)
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
