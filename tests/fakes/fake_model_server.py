"""A small real OIP V2 server whose faults a test can switch on while it runs.

It speaks HTTP/1.1 with keep-alive and the binary tensor extension over raw asyncio, and answers from a pure
function of the row (see `score_of`), so a test can check every answer by itself. It remembers what it was asked.

In a test:  async with FakeModelServer(inputs=[...]) as server: server.fault = Fault.HANG
As a process:  python -m tests.fakes.fake_model_server --port 9000 --input distance:FP32 --input carrier:BYTES
"""

import argparse
import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self

import numpy as np

from kingmaker_contracts import tensors
from kingmaker_contracts.deadlines import TIMEOUT_HEADER
from kingmaker_contracts.inference import DTYPES, InferRequest, InferResponse, Tensor, TensorSpec


class Fault(Enum):
    """What goes wrong with every infer call from now on."""

    NONE = "none"
    SLOW = "slow"
    HANG = "hang"
    ERROR = "error"
    NOT_HTTP = "not http"
    NOT_OIP = "not oip"
    WRONG_ROWS = "wrong rows"
    MISSING_OUTPUT = "missing output"
    CLOSE = "close"


def score_of(values: list[float], bias: float = 0.0) -> float:
    """The positive score of one row: its numbers' sum plus bias, folded into 0..1. Texts count as their length."""
    return float(np.float32(abs(sum(values) + bias) % 100 / 100))


def _numbers(tensor: Tensor, row: int) -> list[float]:
    return [
        float(len(v)) if isinstance(v, str) else 0.0 if v is None or v != v else float(v)
        for v in np.atleast_1d(tensor.array[row]).ravel().tolist()
    ]


@dataclass
class FakeModelServer:
    """inputs: (name, datatype) of columns, shape [-1, 1]; bias: makes variants tell apart; slow_s: for Fault.SLOW.

    Outputs are `label` INT64 [-1] (1 when the score is at least 0.5) and `probabilities` FP32 [-1, 2].
    """

    inputs: list[tuple[str, str]]
    bias: float = 0.0
    slow_s: float = 0.3
    name: str = "fake"
    port: int = 0
    fault: Fault = Fault.NONE
    calls: int = 0
    """Infer calls received."""
    rows: int = 0
    frames: list[int] = field(default_factory=list)
    """Rows of each infer call."""
    connections: int = 0
    """Accepted so far."""
    seen_inputs: list[list[str]] = field(default_factory=list)
    seen_timeouts: list[str] = field(default_factory=list)
    """What each infer call said of its caller's patience, in milliseconds."""
    serve_metadata: bool = True
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen; after the first start on the same port again."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 24)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections, and cut the ones that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Close every open connection as a server does after its keep-alive time."""
        for writer in tuple(self._open):
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path = first.split(" ")[:2]
                await self._answer(writer, method, path, headers, body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            with contextlib.suppress(Exception):
                writer.close()

    async def _answer(
        self, writer: asyncio.StreamWriter, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> None:
        if method == "POST" and path.endswith("/infer"):
            await self._infer(writer, headers, body)
        elif path.endswith("/ready") or path.endswith("/live"):
            self._send(writer, 200, b'{"ready":true,"live":true}')
        elif path.startswith("/v2/models/") and self.serve_metadata:
            self._send(writer, 200, json.dumps(self.metadata()).encode())
        else:
            self._send(writer, 404, b'{"error":"no such path"}')

    def metadata(self) -> dict[str, object]:
        return {
            "name": self.name,
            "platform": "onnx_onnxv1",
            "inputs": [{"name": name, "datatype": datatype, "shape": [-1, 1]} for name, datatype in self.inputs],
            "outputs": [
                {"name": "label", "datatype": "INT64", "shape": [-1]},
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
            ],
        }

    async def _infer(self, writer: asyncio.StreamWriter, headers: dict[str, str], body: bytes) -> None:
        length = headers.get("inference-header-content-length")
        call = tensors.decode_request(body, None if length is None else int(length))
        rows = call.inputs[0].shape[0]
        self.calls += 1
        self.rows += rows
        self.frames.append(rows)
        self.seen_timeouts.append(headers.get(TIMEOUT_HEADER, ""))
        self.seen_inputs.append([tensor.name for tensor in call.inputs])
        if self.fault is Fault.SLOW:
            await asyncio.sleep(self.slow_s)
        elif self.fault is Fault.HANG:
            await asyncio.sleep(3600)
        elif self.fault is Fault.ERROR:
            self._send(writer, 500, b'{"error":"switched on"}')
            return
        elif self.fault is Fault.NOT_HTTP:
            writer.write(b"\x00\x01 this is not HTTP\r\n\r\n")
            return
        elif self.fault is Fault.NOT_OIP:
            self._send(writer, 200, b'{"surprise": [1, 2, 3]}')
            return
        elif self.fault is Fault.CLOSE:
            writer.close()
            return
        answer, head = tensors.encode_response(*self._respond(call, rows))
        self._send(writer, 200, answer, head)

    def _respond(self, call: InferRequest, rows: int) -> tuple[InferResponse, frozenset[str]]:
        if self.fault is Fault.WRONG_ROWS:
            rows = max(0, rows - 1)
        if all(datatype == "FP32" for _, datatype in self.inputs) and call.inputs:
            block = np.concatenate([t.array.reshape(len(t.array), -1) for t in call.inputs], axis=1)[:rows]
            scores = (np.abs(np.nan_to_num(block).astype(np.float64).sum(axis=1) + self.bias) % 100 / 100).astype("<f4")
        else:
            scores = np.array(
                [score_of([v for t in call.inputs for v in _numbers(t, row)], self.bias) for row in range(rows)], "<f4"
            )
        outputs = [
            Tensor("label", "INT64", (scores >= 0.5).astype(DTYPES["INT64"])),
            Tensor("probabilities", "FP32", np.stack([1 - scores, scores], axis=1)),
        ]
        if self.fault is Fault.MISSING_OUTPUT:
            outputs = outputs[:1]
        names = frozenset(tensor.name for tensor in outputs) if call.binary_output else frozenset[str]()
        return InferResponse(self.name, outputs), names

    @staticmethod
    def _send(writer: asyncio.StreamWriter, status: int, body: bytes, head: int | None = None) -> None:
        extra = "" if head is None else f"inference-header-content-length: {head}\r\n"
        text = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        writer.write(text.encode() + body)


def specs(server: FakeModelServer) -> list[TensorSpec]:
    """The inputs as contracts name them."""
    return [TensorSpec(name, datatype, [-1, 1]) for name, datatype in server.inputs]


async def _main(arguments: argparse.Namespace) -> None:
    inputs = [tuple(item.split(":")) for item in arguments.input]
    async with FakeModelServer(inputs, bias=arguments.bias, port=arguments.port) as server:
        sys.stdout.write(f"listening on {server.address}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bias", type=float, default=0.0)
    parser.add_argument("--input", action="append", required=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args()))
