"""The event envelope: predictions as columns, one stream entry a batch, about 100 bytes a prediction.

A batch holds rows that one variant answered under one routing revision, in the order they were
answered. MessagePack carries the header and the columns as raw little-endian blocks. A column whose
block holds one element stands for that value in every row; a block of 0 bytes is a column nobody filled.

Features lie column-major as float32 in the order of the answering variant's profile (`schema` is its
sha256, "" for a variant without one): numbers as they are, missing as NaN, categories as the profile's
codes. A category the profile does not hold is spelled out in `unseen` and coded behind the known ones. A feature in
`rare` is one of whose rare categories the profile keeps hashes: there the first code behind the known ones stands
for all of those, and unseen ones follow it. What `withheld` names, a feature or a column of a block, is sensitive:
it is NaN in every row and means nothing. Copies that a shadow failed come in entries without features (width 0): the
champion's entry has those it takes too.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.labels import Role

VERSION: Final = 1
NO_LABEL: Final = 255
"""In the label column: the model gave no class, or one its profile does not name."""

COLUMNS: Final[dict[str, np.dtype[Any]]] = {
    "id": np.dtype("V16"),
    "row": np.dtype("<u2"),
    "assigned": np.dtype("<u1"),
    "reason": np.dtype("<u1"),
    "eligible": np.dtype("<u1"),
    "key_hash": np.dtype("<u8"),
    "dt": np.dtype("<u4"),
    "latency": np.dtype("<u4"),
    "status": np.dtype("<u2"),
    "score": np.dtype("<f4"),
    "label": np.dtype("<u1"),
}
"""Column to element type. assigned: index into `variants`; reason: index into labels.REASONS;
eligible: bit i says the request had every input of variants[i + 1]; dt: microseconds after t0;
latency: microseconds, 0 of a copy that reached no server, its shadow being away; status: the HTTP status the client
got (or the copy, for a shadow); score: NaN when there is none; label: index of the predicted class in the profile's
score.labels."""


class BadEnvelope(ValueError):
    """An entry that cannot be read; the text says what was found and what was expected."""


class _Wire(msgspec.Struct, array_like=False):
    v: int
    producer: str
    seq: int
    count: int
    sent: int
    dropped: int
    t0: int
    revision: int
    rollout: str
    variant: str
    version: str
    role: Role
    schema: str
    variants: list[str]
    columns: dict[str, bytes]
    features: bytes
    width: int
    unseen: dict[str, list[str]] = {}
    rare: list[str] = []
    withheld: list[str] = []


@dataclass(slots=True)
class EventBatch:
    """One entry, decoded.

    producer, seq: who wrote it and its number in that life, from 1; sent, dropped: the producer's rows
    before this batch (offered, given up), which tells a reader how many rows a gap in seq cost;
    t0: unix milliseconds of the first row; variants: names of the routing record, champion first;
    columns: as COLUMNS says, each of shape (count,); features: (width, count) float32, width 0 for none.
    """

    producer: str
    seq: int
    sent: int
    dropped: int
    t0: int
    revision: int
    rollout: str
    variant: str
    version: str
    role: Role
    schema: str
    variants: list[str]
    columns: dict[str, NDArray[Any]]
    features: NDArray[np.float32]
    unseen: dict[str, list[str]] = field(default_factory=dict)
    rare: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.columns["id"])


def encode(batch: EventBatch) -> bytes:
    """The bytes of one stream entry. A column of one element stands for that value in every row. Raises ValueError
    when the columns do not fit together."""
    count = batch.count
    columns: dict[str, bytes] = {}
    for name, dtype in COLUMNS.items():
        column = batch.columns[name]
        if len(column) not in (1, count):
            raise ValueError(f"column {name} has {len(column)} rows, the batch {count}")
        if name != "id" and len(column) > 1 and column[0] == column[-1] and (column == column[0]).all():
            column = column[:1]
        columns[name] = np.asarray(column, dtype).tobytes()
    width, *rows = batch.features.shape
    if width and rows != [count]:
        raise ValueError(f"features have shape {batch.features.shape}, expected (features, {count})")
    # by reference: the one copy of them that is made is the entry
    features: Any = np.ascontiguousarray(batch.features, np.dtype("<f4")).data if width else b""
    wire = _Wire(
        v=VERSION,
        producer=batch.producer,
        seq=batch.seq,
        count=count,
        sent=batch.sent,
        dropped=batch.dropped,
        t0=batch.t0,
        revision=batch.revision,
        rollout=batch.rollout,
        variant=batch.variant,
        version=batch.version,
        role=batch.role,
        schema=batch.schema,
        variants=batch.variants,
        columns=columns,
        features=features,
        width=width,
        unseen=batch.unseen,
        rare=batch.rare,
        withheld=batch.withheld,
    )
    return msgspec.msgpack.encode(wire)


_decode: Final = msgspec.msgpack.Decoder(_Wire).decode


def decode(raw: bytes) -> EventBatch:
    """A batch from one stream entry. Raises BadEnvelope."""
    try:
        wire = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadEnvelope(f"not an event envelope: {error}") from None
    if wire.v != VERSION:
        raise BadEnvelope(f"envelope version {wire.v}, expected {VERSION}")
    if wire.count < 1:
        raise BadEnvelope(f"count {wire.count}, expected at least 1")
    if len(wire.features) != 4 * wire.width * wire.count or wire.width < 0:
        raise BadEnvelope(f"features have {len(wire.features)} bytes, expected {wire.width} x {wire.count} x 4")
    return EventBatch(
        producer=wire.producer,
        seq=wire.seq,
        sent=wire.sent,
        dropped=wire.dropped,
        t0=wire.t0,
        revision=wire.revision,
        rollout=wire.rollout,
        variant=wire.variant,
        version=wire.version,
        role=wire.role,
        schema=wire.schema,
        variants=wire.variants,
        columns={name: _column(name, wire) for name in COLUMNS},
        features=np.frombuffer(wire.features, np.dtype("<f4")).reshape(wire.width, wire.count),
        unseen=wire.unseen,
        rare=wire.rare,
        withheld=wire.withheld,
    )


def _column(name: str, wire: _Wire) -> NDArray[Any]:
    dtype = COLUMNS[name]
    raw = wire.columns.get(name)
    if raw is None:
        raise BadEnvelope(f"column {name} is missing")
    if len(raw) == wire.count * dtype.itemsize:
        return np.frombuffer(raw, dtype)
    if len(raw) == dtype.itemsize and name != "id":
        return np.frombuffer(raw * wire.count, dtype)  # a tenth of what broadcast_to costs; count is bounded by the ids
    raise BadEnvelope(f"column {name} has {len(raw)} bytes, expected {wire.count} or 1 elements of {dtype.itemsize}")
