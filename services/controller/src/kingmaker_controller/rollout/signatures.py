"""Which variants cannot share requests with the others, as gateways decide it for themselves.

A request is read once, so an input has one type for all who get it: a variant that gives one another type than the
champion, or than a challenger before it, gets no traffic. Of a variant without a profile nothing is known here.
"""

from collections.abc import Mapping, Sequence

from kingmaker_contracts.status import VariantStatus

Inputs = Mapping[str, str]
"""Type by name, as FP32, or FP32[4] for a block of four numbers a row."""


def mismatched(variants: Sequence[VariantStatus], inputs: Mapping[str, Inputs]) -> dict[str, str]:
    """Why a variant gets no traffic, by its name. variants: the champion first; inputs: by the profile's sha256."""
    found: dict[str, str] = {}
    agreed: dict[str, tuple[str, str]] = {}
    for variant in variants:
        mine = inputs.get(variant.profile or "", {})
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
