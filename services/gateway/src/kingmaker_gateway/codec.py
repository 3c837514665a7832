"""V2 bodies into a batch, outputs into V2 bodies; V1 is in `rows`. Binary tensors work in both directions.

Pure. The contracts read and write the bytes; here is what only the gateway knows: which errors are a
client's, which outputs it wants, and that an answer carries the ServedModel's name.
"""

from collections.abc import Sequence
from typing import Any, Final

from kingmaker_contracts import tensors
from kingmaker_contracts.inference import BINARY_HEADER, BadTensor, InferRequest, InferResponse, TensorSpec
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway.frames import Slice

BINARY: Final = "application/octet-stream"
_LONGEST_US: Final = 2**63
"""JSON has whole numbers that no float holds."""

Encoded = tuple[bytes, int | None]
"""A body, and the length of its JSON part; None when all of it is JSON."""


def check_is_json(content_type: str) -> None:
    """A body that comes without the length of its JSON part must be JSON as a whole. Raises Problem."""
    if content_type.startswith(BINARY):
        raise Problem(Code.BAD_INPUT, f"content-type is {BINARY}, but header {BINARY_HEADER} is missing")


def decode(body: bytes, header_length: str | None, model_inputs: Sequence[TensorSpec] = ()) -> InferRequest:
    """A V2 infer call. header_length: the header's text; model_inputs: what a body without a JSON part may be.
    Raises Problem."""
    try:
        return tensors.decode_request(body, _length(header_length), model_inputs)
    except BadTensor as error:
        raise Problem(Code.BAD_INPUT, str(error)) from None


def encode(call: InferRequest, model: str, version: str, prediction_id: str, answer: Slice) -> Encoded:
    """The answer to `call`, with the outputs it asked for in the order it asked. They were checked by `wanted`."""
    chosen = list(answer.tensors)
    if call.outputs is not None:
        by_name = {tensor.name: tensor for tensor in chosen}
        chosen = [by_name[output.name] for output in call.outputs]
    binary = frozenset(tensor.name for tensor in chosen if tensor.datatype == "FP16" or call.wants_binary(tensor.name))
    response = InferResponse(model, chosen, version, prediction_id if call.id is None else call.id)
    return tensors.encode_response(response, binary)


def check_wanted(call: InferRequest, known: Any) -> None:
    """Every output asked for exists, and no two are the same. Raises Problem."""
    if call.outputs is None:
        return
    names = [output.name for output in call.outputs]
    if not names:
        raise Problem(Code.BAD_INPUT, "outputs is an empty list; leave it out to get all outputs")
    for at, name in enumerate(names):
        if name not in known:
            raise Problem(Code.BAD_INPUT, f"unknown output {name[:80]!r}; known outputs: {', '.join(map(repr, known))}")
        if name in names[:at]:
            raise Problem(Code.BAD_INPUT, f"output {name!r} is asked for twice")


def timeout_s(call: InferRequest) -> float | None:
    """OIP parameter `timeout`, microseconds, in seconds. Raises Problem."""
    value: Any = call.parameters.get("timeout")
    if value is None:
        return None
    if type(value) is not int or not 0 < value < _LONGEST_US:
        found = repr(value)[:40]
        raise Problem(Code.BAD_INPUT, f"parameter timeout is {found}, expected a positive number of microseconds")
    return value / 1e6


def _length(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 12:
        raise Problem(Code.BAD_INPUT, f"header {BINARY_HEADER} is {text[:40]!r}, expected a number of bytes")
    return int(text)


def binary_headers(head_length: int) -> list[tuple[bytes, bytes]]:
    """What tells a client how to read a body with binary tensors."""
    return [(b"content-type", BINARY.encode()), (BINARY_HEADER.encode(), b"%d" % head_length)]
