"""Ask one variant: rows in, outputs back, over OIP V2 with binary tensors.

One interface, `send`, takes a frame of N rows. Today a frame holds the rows of one request; coalescing will
fill it from many and slice the answer back, and nothing above has to change. An answer is checked before anyone
sees it: the declared outputs, of the declared types, with as many rows as were asked.
"""

import asyncio
import random
from collections.abc import Sequence

import msgspec
import numpy as np

from kingmaker_contracts import tensors
from kingmaker_contracts.inference import BadTensor, ModelMetadata, Tensor
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.connection import Reply
from kingmaker_gateway.endpoint import Endpoint
from kingmaker_gateway.errors import UpstreamGarbage, UpstreamRefused, UpstreamUnreachable
from kingmaker_gateway.settings import UpstreamSettings
from kingmaker_gateway.signature import Signature

_HEAD = (
    b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/octet-stream\r\n"
    b"content-length: %d\r\ninference-header-content-length: %d\r\n\r\n"
)


class Upstream:
    """The servers of one variant, over connections nobody else uses."""

    def __init__(
        self, model_name: str, endpoints: Sequence[str], settings: UpstreamSettings, dice: random.Random
    ) -> None:
        self._path = f"/v2/models/{model_name}".encode()
        self._settings = settings
        self._dice = dice
        self._endpoints: dict[str, Endpoint] = {}
        self._list: list[Endpoint] = []
        self.use(endpoints)

    @property
    def is_up(self) -> bool:
        return any(endpoint.is_up for endpoint in self._list)

    def use(self, addresses: Sequence[str]) -> None:
        """Serve from these addresses from now on; the ones that stay keep their connections."""
        for gone in set(self._endpoints) - set(addresses):
            self._endpoints.pop(gone).retire()
        for address in addresses:
            if address not in self._endpoints:
                endpoint = self._endpoints[address] = Endpoint(address, self._settings)
                endpoint.start()
        self._list = list(self._endpoints.values())

    def retire(self) -> None:
        """No longer routed to; requests on their way still get their answers."""
        for endpoint in self._list:
            endpoint.retire()

    async def close(self) -> None:
        await asyncio.gather(*(endpoint.close() for endpoint in self._list))

    async def predict(self, batch: Batch, signature: Signature, max_frame_rows: int, deadline: float) -> list[Tensor]:
        """Outputs for all rows of a batch, in the signature's order; large batches travel in several frames.

        deadline: the loop's clock. Raises UpstreamError.
        """
        if batch.rows <= max_frame_rows:
            return await self.send(batch.tensors(signature, 0, batch.rows), batch.rows, signature, deadline)
        parts = []
        for first in range(0, batch.rows, max_frame_rows):
            last = min(batch.rows, first + max_frame_rows)
            parts.append(await self.send(batch.tensors(signature, first, last), last - first, signature, deadline))
        return [
            Tensor(column[0].name, column[0].datatype, np.concatenate([part.array for part in column]))
            for column in zip(*parts, strict=True)
        ]

    async def send(self, frame: list[Tensor], rows: int, signature: Signature, deadline: float) -> list[Tensor]:
        """One frame, answered and checked. Raises UpstreamError."""
        body, head_length = tensors.encode_request(frame)
        reply = await self._exchange(_HEAD, b"/infer", body, head_length, deadline)
        try:
            answer = tensors.decode_response(reply.body, reply.head_length)
        except BadTensor as error:
            raise UpstreamGarbage(str(error)) from None
        return _checked({tensor.name: tensor for tensor in answer.outputs}, rows, signature)

    async def metadata(self, deadline: float) -> ModelMetadata:
        """What the server says of its model. Raises UpstreamError."""
        reply = await self._exchange(b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n", b"", b"", None, deadline)
        try:
            return msgspec.json.decode(reply.body, type=ModelMetadata)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UpstreamGarbage(f"not model metadata: {error}") from None

    async def _exchange(
        self, form: bytes, suffix: bytes, body: bytes, head_length: int | None, deadline: float
    ) -> Reply:
        """Send to the better of two endpoints; one that cannot be reached is passed over for the next."""
        tried: set[Endpoint] = set()
        while True:
            endpoint = self._pick(tried)
            tried.add(endpoint)
            values = (self._path + suffix, endpoint.address.encode())
            head = form % (values if head_length is None else (*values, len(body), head_length))
            try:
                reply = await endpoint.send(head + body, deadline)
                break
            except UpstreamUnreachable:
                if len(tried) >= len(self._list):
                    raise
        if reply.status != 200:
            raise UpstreamRefused(reply.status)
        return reply

    def _pick(self, tried: set[Endpoint]) -> Endpoint:
        """The less busy of two drawn at random among those that are up, or among all when none is."""
        if len(self._list) == 1:
            return self._list[0]
        fresh = [endpoint for endpoint in self._list if endpoint not in tried]
        candidates = [endpoint for endpoint in fresh if endpoint.is_up] or fresh
        if not candidates:
            raise UpstreamUnreachable("the variant has no endpoint")
        if len(candidates) == 1:
            return candidates[0]
        return min(self._dice.sample(candidates, 2), key=lambda endpoint: endpoint.outstanding)


def _checked(found: dict[str, Tensor], rows: int, signature: Signature) -> list[Tensor]:
    outputs = []
    for name, spec in signature.outputs.items():
        tensor = found.get(name)
        if tensor is None:
            raise UpstreamGarbage(f"the answer lacks output {name!r}")
        if tensor.datatype != spec.datatype:
            raise UpstreamGarbage(f"output {name!r} has datatype {tensor.datatype}, expected {spec.datatype}")
        if not tensor.shape or tensor.shape[0] != rows:
            raise UpstreamGarbage(f"output {name!r} has shape {list(tensor.shape)}, expected {rows} rows")
        outputs.append(tensor)
    return outputs
