"""profile.json of a published model: what goes in, what comes out, and what training looked like.

Written once by publishing and never changed: it is named by the sha256 of its bytes. The gateway
reads the signature, the monitor the reference histograms, bins and categories; neither asks the registry.
"""

import hashlib
import math
from typing import Annotated, Literal

import msgspec

from kingmaker_contracts.inference import DTYPES
from kingmaker_contracts.rare_categories import RareCategories

MAX_BYTES = 1024 * 1024
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""Of rows: more than this is no count that a double, and so any other reader of JSON, could hold."""
FILE_NAME = "kingmaker/profile.json"
"""Where the profile lies inside the model's MLflow artifact folder."""


class Feature(msgspec.Struct, frozen=True):
    """One input of the model. shape is [-1, 1] for a named column, [-1, n] for a block of n numbers."""

    name: str
    datatype: str
    shape: list[int]
    kind: Literal["numeric", "categorical"]
    nullable: bool = False

    def __post_init__(self) -> None:
        if self.datatype not in DTYPES:
            raise ValueError(f"datatype {self.datatype!r} is not one of {', '.join(DTYPES)}")


def width_of(feature: Feature) -> int:
    """How many columns a feature has: 1, or the numbers of a block."""
    return math.prod(max(size, 1) for size in feature.shape[1:])


class Signature(msgspec.Struct, frozen=True):
    """The part of a profile that says what goes in: whoever wants no more reads no more."""

    inputs: list[Feature]


class Output(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: list[int]


class Score(msgspec.Struct, frozen=True):
    """Where the one number lies that drift and quality look at.

    output, column: the tensor and its column (0 for a vector); positive: the label the score speaks for;
    labels: the model's classes in the order of its columns, as strings; label_output: the tensor with the
    predicted class, if the model has one.
    """

    task: Literal["binary", "multiclass", "regression"]
    output: str
    column: int = 0
    positive: str | None = None
    labels: list[str] = []
    label_output: str | None = None


class NumericReference(msgspec.Struct, frozen=True):
    """A fine histogram of training rows.

    edges: ascending cut points; bin i holds edges[i-1] < x <= edges[i], the outer bins are open, so
    counts has one more entry than edges. `numpy.searchsorted(edges, x, side="left")` is the bin.
    missing: rows without a value, in no bin. discrete: at most 20 distinct values, an edge at each.
    """

    edges: list[float]
    counts: list[Count]
    missing: Count
    minimum: float | None
    maximum: float | None
    mean: float | None
    std: float | None
    discrete: bool = False

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError(
                f"{len(self.edges)} edges make {len(self.edges) + 1} bins, found {len(self.counts)} counts"
            )
        if any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges must rise")


class CategoricalReference(msgspec.Struct, frozen=True):
    """Counts of training rows by category. categories[i] is code i in events; other: rows of rarer categories;
    rare: which those are, None when there are none, or too many, or a release before this one published."""

    categories: list[str]
    counts: list[Count]
    other: Count
    missing: Count
    rare: RareCategories | None = None

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.categories):
            raise ValueError(f"{len(self.categories)} categories but {len(self.counts)} counts")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError("a category stands twice")


class Reference(msgspec.Struct, frozen=True):
    """Training rows, column by column. Each feature is in exactly one of the two maps."""

    rows: Count
    numeric: dict[str, NumericReference] = {}
    categorical: dict[str, CategoricalReference] = {}
    score: NumericReference | None = None


class Quality(msgspec.Struct, frozen=True, omit_defaults=True):
    """Measured on evaluation rows; optimistic when they overlap with the training rows."""

    rows: int
    metrics: dict[str, float]
    optimistic: bool = False


class CalibrationBin(msgspec.Struct, frozen=True):
    """Evaluation rows whose score fell into one bin: their mean score and observed share of positives."""

    count: int
    mean_score: float
    positive_share: float


class Parity(msgspec.Struct, frozen=True):
    """How far ONNX Runtime and scikit-learn were apart on the evaluation rows."""

    rows: int
    max_abs_difference: float
    tolerance: float
    label_mismatches: int = 0


class Profile(msgspec.Struct, frozen=True):
    """The whole of profile.json."""

    name: str
    onnx_sha256: str
    inputs: list[Feature]
    outputs: list[Output]
    score: Score | None
    reference: Reference | None
    quality: Quality | None
    parity: Parity | None
    created_at: str
    calibration: list[CalibrationBin] = []
    importance: dict[str, float] = {}
    libraries: dict[str, str] = {}
    v: Literal[1] = 1


def sha256_of(raw: bytes) -> str:
    """The name of a profile: hex sha256 of its bytes as stored."""
    return hashlib.sha256(raw).hexdigest()
