"""Labels on their way from the gateway to the monitor: one stream entry a call."""

from typing import Final

import msgspec

from kingmaker_contracts.events import BadEnvelope

VERSION: Final = 1
MAX_LABELS: Final = 10_000
"""Labels in one call, at most."""

Label = str | float | int | bool


class LabelEvent(msgspec.Struct, frozen=True, array_like=True):
    """The truth about one prediction.

    id: 16 bytes; row: None means the only row of a one-row request; observed_at: RFC 3339, when the truth
    was known; source: who says so. (id, row, source) names a label: sent again it is a duplicate.
    """

    id: bytes
    row: int | None
    label: Label
    observed_at: str | None = None
    source: str | None = None


class FeedbackBatch(msgspec.Struct, frozen=True):
    """The labels of one call that share a partition. received_at: unix milliseconds."""

    received_at: int
    labels: list[LabelEvent]
    v: int = VERSION


def encode(batch: FeedbackBatch) -> bytes:
    return msgspec.msgpack.encode(batch)


_decode: Final = msgspec.msgpack.Decoder(FeedbackBatch).decode


def decode(raw: bytes) -> FeedbackBatch:
    """A batch from one stream entry. Raises BadEnvelope."""
    try:
        batch = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadEnvelope(f"not a feedback entry: {error}") from None
    if batch.v != VERSION:
        raise BadEnvelope(f"feedback version {batch.v}, expected {VERSION}")
    if any(len(label.id) != 16 for label in batch.labels):
        raise BadEnvelope("a prediction id is not 16 bytes long")
    return batch


def label_text(label: Label) -> str:
    """The one spelling of a label, so that 1, 1.0, true and "1" name the same class."""
    if isinstance(label, bool):
        return "1" if label else "0"
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)
