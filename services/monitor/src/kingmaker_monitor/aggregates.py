"""Aggregates: named arrays of counts that add up, so order, batching and replicas do not matter.

An array that nothing was counted into does not exist, which keeps small variants small. Everything that
is known about the meaning of an array stands in this file.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

ROWS: Final = (
    "assigned",
    "answered",
    "errors",
    "fallbacks",
    "ineligible",
    "shadowed",
    "shadow_errors",
    "unprofiled",
)
"""Positions of the array "rows". unprofiled: rows whose features could not be binned."""
QUALITY: Final = ("n", "positives", "judged", "right", "probabilities", "scored")
"""Positions of the array "quality.live" and "quality.shadow". judged: rows whose class is known to be right or
wrong; probabilities: rows that log loss and Brier count; scored: rows in the AUC or error histograms."""
PAIRS: Final = ("n", "classed", "same", "scored", "labelled", "champion_only_right", "challenger_only_right")
"""Positions of the array "pairs", kept with the challenger."""


AS: Final = "as."
_DWARFS: Final = 1e6


def as_name(schema: str, column: str) -> str:
    """Name of an array of the champion's rows in the bins of another profile."""
    return f"{AS}{schema}/{column}"


def new_rows() -> NDArray[np.int64]:
    return np.zeros(len(ROWS), np.int64)


@dataclass(slots=True)
class Aggregate:
    """Counts of one variant in one pane. arrays: int64 counts or float64 sums, by name.

    rows; latency.live, latency.shadow (log buckets); live/<column> and shadow/<column> (the profile's bins,
    then its extras, see `binning`); score.live, score.shadow (sum, n); classes.live, classes.shadow
    (predicted classes as the profile names them, then none); quality.* with losses.* (log loss,
    Brier) and positives.*, negatives.* (score bins), or errors.* of a regression (see `stats.errors`); pairs,
    pairs.difference (sum); as.<schema>/<column> (the champion's live rows in the bins of a challenger's profile that
    cuts that column otherwise).
    """

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Add values to the array of that name. Raises ValueError when the shapes differ."""
        have = self.arrays.get(name)
        if have is None:
            self.arrays[name] = values.copy()
        else:
            have += values

    def merge(self, other: "Aggregate") -> None:
        for name, values in other.arrays.items():
            self.add(name, values)

    def subtract(self, other: "Aggregate") -> None:
        """Take away what was merged before."""
        for name, values in other.arrays.items():
            self.add(name, -values)

    def is_dwarfed_by(self, gone: "Aggregate") -> bool:
        """Whether a sum of floats was taken away that leaves fewer than ten of its sixteen digits here."""
        return any(
            values.dtype.kind == "f" and bool((np.abs(values) > _DWARFS * np.abs(self.arrays[name])).any())
            for name, values in gone.arrays.items()
        )

    def get(self, name: str, size: int) -> NDArray[np.int64]:
        """An array of counts, zeros of that size when nothing was counted."""
        have = self.arrays.get(name)
        return np.zeros(size, np.int64) if have is None else have

    def sums(self, name: str, size: int) -> NDArray[np.float64]:
        have = self.arrays.get(name)
        return np.zeros(size, np.float64) if have is None else have

    def rows(self, name: str) -> int:
        """One of ROWS."""
        return int(self.get("rows", len(ROWS))[ROWS.index(name)])

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)


def pack(aggregate: Aggregate) -> bytes:
    """The bytes of an aggregate as the store keeps them: most counts are 0, so they shrink to a tenth."""
    plain = {name: (values.dtype.str, values.tobytes()) for name, values in aggregate.arrays.items()}
    return zlib.compress(msgspec.msgpack.encode(plain), 1)


_decode: Final = msgspec.msgpack.Decoder(dict[str, tuple[str, bytes]]).decode


class BadAggregate(ValueError):
    """Bytes that are no aggregate."""


def unpack(raw: bytes) -> Aggregate:
    """Raises BadAggregate: the bytes carry a checksum."""
    try:
        plain = _decode(zlib.decompress(raw))
        return Aggregate({name: np.frombuffer(data, kind).copy() for name, (kind, data) in plain.items()})
    except (zlib.error, msgspec.MsgspecError, ValueError, TypeError) as error:
        raise BadAggregate(str(error)) from None
