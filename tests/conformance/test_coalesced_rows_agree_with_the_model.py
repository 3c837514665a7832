"""The gateway's coalescer in front of ONNX Runtime itself: what travelled together was answered as it would be alone.

The bit-for-bit property against a deterministic model stands with the gateway; a real model's sums may differ by an
ulp between batch sizes.
"""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kingmaker_contracts import tensors
from kingmaker_contracts.inference import Tensor, TensorSpec
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.coalescer import Ask, Coalescer, Flight, hand_out
from kingmaker_gateway.errors import UpstreamError, UpstreamRefused
from kingmaker_gateway.frames import Slice
from kingmaker_gateway.signature import InputSpec, Signature
from tests.conformance.models import CARRIERS, Oracle

TOLERANCE = 1e-6
SIGNATURE = Signature(
    {
        "distance": InputSpec("distance", "FP32", (1,), False),
        "delay": InputSpec("delay", "FP32", (1,), True),
        "carrier": InputSpec("carrier", "BYTES", (1,), False),
    },
    {
        "label": TensorSpec("label", "INT64", [-1]),
        "probabilities": TensorSpec("probabilities", "FP32", [-1, 2]),
    },
)
MAX_ROWS = 32


class Client:
    is_hurried = False

    def __init__(self, rows: int, seed: int) -> None:
        dice = np.random.default_rng(seed)
        carriers = np.empty((rows, 1), object)
        carriers[:, 0] = dice.choice([*CARRIERS, "ü?"], rows)
        delay = dice.normal(5, 20, (rows, 1)).astype(np.float32)
        delay[dice.random((rows, 1)) < 0.2] = np.nan
        self.arrays = {
            "carrier": carriers,
            "delay": delay,
            "distance": dice.uniform(100, 2500, (rows, 1)).astype(np.float32),
        }
        self.ends: list[Slice | UpstreamError] = []

    def answered(self, answer: Slice) -> None:
        self.ends.append(answer)

    def failed(self, error: UpstreamError) -> None:
        self.ends.append(error)


def serve(flight: Flight, oracle: Oracle) -> list[Tensor]:
    """The model's answer to the bytes of a frame."""
    body = flight.frame.encoded()
    call = tensors.decode_request(body.data, body.head_length)
    found = oracle({tensor.name: tensor.array for tensor in call.inputs})
    return [Tensor(name, spec.datatype, found[name]) for name, spec in SIGNATURE.outputs.items()]


@given(
    clients=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 2**31)), min_size=1, max_size=30),
    order=st.lists(st.sampled_from(["send", "land", "fail"]), max_size=80),
)
@settings(max_examples=60)
def test_any_mixture_is_answered_as_each_row_alone(
    oracles: dict[str, Oracle], clients: list[tuple[int, int]], order: list[str]
) -> None:
    oracle = oracles["flights"]
    coalescer = Coalescer(hand_out)
    flying: list[Flight] = []
    asked = [Client(rows, seed) for rows, seed in clients]
    coming = list(asked)

    def step(what: str) -> None:
        if what == "send":
            for client in coming[:3]:
                batch = Batch(len(client.arrays["delay"]), client.arrays, frozenset())
                coalescer.add([Ask(batch, SIGNATURE, MAX_ROWS, 1e9, client, batch.rows)])
            del coming[:3]
            again = coalescer.again
            flight: Any = again[0] if again else coalescer.next()
            if again:
                coalescer.resume(flight)
            if flight is not None:
                flying.append(flight)
        elif flying:
            flight = flying.pop(0)
            if what == "fail" and len(flight.asks) > 1:
                coalescer.failed(flight, UpstreamRefused(500))
            else:
                coalescer.answered(flight, serve(flight, oracle))

    for what in order:
        step(what)
    while coming or not coalescer.is_idle:
        step("send")
        step("land")
    for client in asked:
        [end] = client.ends
        assert isinstance(end, Slice)
        found = {tensor.name: tensor.array for tensor in end.tensors}
        for row in range(len(client.arrays["delay"])):
            alone = oracle({name: array[row : row + 1] for name, array in client.arrays.items()})
            assert found["label"][row] == alone["label"][0]
            assert np.abs(found["probabilities"][row] - alone["probabilities"][0]).max() <= TOLERANCE
