"""What a trivial upstream answers, whatever it is asked: both the gateway's and the proxies' speak these bytes."""

from typing import Final

CONSTANT: Final = (0.25, 0.75)
"""Exact in float32, so every encoding spells it alike."""


def constant_json(model: str) -> str:
    """A V2 answer of one row."""
    return (
        f'{{"model_name":"{model}","model_version":"1","outputs":[{{"name":"label","shape":[1],"datatype":"INT64",'
        f'"data":[1]}},{{"name":"probabilities","shape":[1,2],"datatype":"FP32","data":[{CONSTANT[0]},{CONSTANT[1]}]}}]}}'
    )
