"""Run the model before anybody waits for it, on rows it might see.

The first runs allocate memory and are several times slower. Values come from the profile: the smallest and
the first category, for each of these was in a training row, as a mean need not have been. Without a profile
that tells of training rows they are zeros and empty strings, and a model that refuses those is served all the
same: the rows were invented.
"""

import logging
from typing import Any, Final

import numpy as np

from kingmaker_contracts.inference import DTYPES, TensorSpec
from kingmaker_contracts.profile import Profile, Reference
from kingmaker_model_server.errors import BadModel, ModelFailed
from kingmaker_model_server.session import CHUNK, Feed, OnnxModel

logger = logging.getLogger(__name__)

BATCHES: Final = (1, CHUNK)


def warm_up(model: OnnxModel, profile: Profile | None, where: str) -> None:
    """Run one row and a full chunk. Raises BadModel when the model cannot answer rows like its training rows."""
    names = [spec.name for spec in model.outputs]
    batches = BATCHES if all(spec.shape[:1] == [-1] for spec in model.inputs) else BATCHES[:1]
    for rows in batches:
        try:
            outputs = model.run(names, plausible(model.inputs, profile, rows))
        except ModelFailed as error:
            if profile is not None and profile.reference is not None:
                raise BadModel(f"{where}: loads, but cannot answer a plausible row: {error}") from None
            logger.warning("warm-up skipped, the model refuses invented rows", extra={"reason": str(error)})
            return
        model.observe(outputs, rows)


def plausible(inputs: list[TensorSpec], profile: Profile | None, rows: int) -> Feed:
    """`rows` equal rows. A dimension of any length is `rows` in the first place and 1 elsewhere."""
    reference = profile.reference if profile is not None else None
    feed: Feed = {}
    for spec in inputs:
        shape = [(rows if i == 0 else 1) if size < 0 else size for i, size in enumerate(spec.shape)]
        feed[spec.name] = np.full(shape, _value(spec, reference), DTYPES[spec.datatype])
    return feed


def _value(spec: TensorSpec, reference: Reference | None) -> Any:
    text = spec.datatype == "BYTES"
    if reference is None:
        return "" if text else 0
    categories = reference.categorical.get(spec.name)
    if categories is not None and categories.categories:
        return categories.categories[0] if text else _number(categories.categories[0])
    numeric = reference.numeric.get(spec.name)
    least = numeric.minimum if numeric is not None and numeric.minimum is not None else 0.0
    return "" if text else least if spec.datatype.startswith("FP") else round(least)


def _number(category: str) -> int:
    try:
        return int(float(category))
    except ValueError:
        return 0
