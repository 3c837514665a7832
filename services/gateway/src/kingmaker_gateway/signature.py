"""What a variant takes and gives, from its profile or, without one, from the model server's own metadata."""

import math
from dataclasses import dataclass

from kingmaker_contracts.inference import DTYPES, ModelMetadata, TensorSpec
from kingmaker_contracts.profile import Profile


@dataclass(slots=True, frozen=True)
class InputSpec:
    """One input. tail: the shape behind the rows, () for a vector, -1 for a dimension of any length."""

    name: str
    datatype: str
    tail: tuple[int, ...]
    nullable: bool

    @property
    def is_open(self) -> bool:
        """Whether a row's size is not known beforehand."""
        return any(size < 0 for size in self.tail)

    @property
    def width(self) -> int:
        """Values in a row."""
        return math.prod(self.tail)

    def shape_text(self) -> str:
        return str([-1, *self.tail])


@dataclass(slots=True, frozen=True)
class Signature:
    """inputs and outputs by name, in the model's own order; outputs: datatype."""

    inputs: dict[str, InputSpec]
    outputs: dict[str, TensorSpec]

    def conflicts(self, other: "Signature") -> list[str]:
        """Inputs both have with different types or sizes, in words; none: the two can share requests."""
        shared = [(spec, other.inputs[name]) for name, spec in self.inputs.items() if name in other.inputs]
        return [
            f"{mine.name}: {mine.datatype}{mine.shape_text()} against {theirs.datatype}{theirs.shape_text()}"
            for mine, theirs in shared
            if (mine.datatype, mine.tail or (1,)) != (theirs.datatype, theirs.tail or (1,))
        ]


def from_profile(profile: Profile) -> Signature:
    return Signature(
        {f.name: InputSpec(f.name, f.datatype, tuple(f.shape[1:]), f.nullable) for f in profile.inputs},
        {o.name: TensorSpec(o.name, o.datatype, o.shape) for o in profile.outputs},
    )


def from_metadata(metadata: ModelMetadata) -> Signature:
    """Metadata says nothing of missing values, so none are allowed. Raises ValueError for an unknown datatype."""
    for spec in (*metadata.inputs, *metadata.outputs):
        if spec.datatype not in DTYPES:
            raise ValueError(f"{spec.name}: unknown datatype {spec.datatype!r}")
    return Signature(
        {s.name: InputSpec(s.name, s.datatype, tuple(s.shape[1:]), False) for s in metadata.inputs},
        {s.name: s for s in metadata.outputs},
    )
