"""Which variants cannot share requests with the others, as gateways decide it for themselves.

A request is read once, so an input has one type for all who get it: a variant that gives one another type than the
champion, or than a challenger before it, gets no traffic. A variant's profile says what it takes; without one its
server does.
"""

from collections.abc import Mapping, Sequence

from kingmaker_contracts.status import VariantStatus
from kingmaker_controller.rollout.facts import Identity, Observed
from kingmaker_controller.rollout.variants import identity_of

Inputs = Mapping[str, str]
"""Type by name, as FP32, or FP32[4] for a block of four numbers a row."""


def type_of(datatype: str, shape: Sequence[int]) -> str:
    """shape: rows first."""
    block = list(shape[1:])
    return datatype if block in ([], [1]) else f"{datatype}{block}"


def mismatched(
    variants: Sequence[VariantStatus], inputs: Mapping[str, Inputs], observed: Mapping[Identity, Observed]
) -> dict[str, str]:
    """Why a variant gets no traffic, by its name. variants: the champion first; inputs: by the profile's sha256."""
    found: dict[str, str] = {}
    agreed: dict[str, tuple[str, str]] = {}
    for variant in variants:
        mine = _inputs(variant, inputs, observed)
        texts = [
            f"input {name!r} is {type_}, for {agreed[name][1]} it is {agreed[name][0]}"
            for name, type_ in mine.items()
            if name in agreed and agreed[name][0] != type_
        ]
        if texts:
            found[variant.name] = "; ".join(texts)
        else:
            agreed |= {name: (type_, variant.name) for name, type_ in mine.items() if name not in agreed}
    return found


def _inputs(variant: VariantStatus, inputs: Mapping[str, Inputs], observed: Mapping[Identity, Observed]) -> Inputs:
    if variant.profile:
        return inputs.get(variant.profile, {})
    seen = observed.get(identity_of(variant))
    return seen.inputs if seen is not None else {}
