"""Everything known about a model, as the profile.json the gateway and the monitor read."""

import datetime
from collections.abc import Sequence
from importlib.metadata import version as installed

import msgspec
import numpy as np
from numpy.typing import NDArray

from kingmaker.publishing import histograms
from kingmaker.publishing.columns import Column, Rows
from kingmaker.publishing.errors import TooBig
from kingmaker.publishing.estimator import Model
from kingmaker.publishing.predictor import Predictor
from kingmaker_contracts import profile as contract
from kingmaker_contracts import wire

_LIBRARIES = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime")


def inputs(predictor: Predictor, columns: Sequence[Column]) -> list[contract.Feature]:
    """The model's inputs in the order of the graph. A column that no step reads is none."""
    known = {column.name: column for column in columns}
    found = [known[name] for name in predictor.inputs]
    return [contract.Feature(c.name, c.datatype, [-1, 1], c.kind, c.nullable) for c in found]


def score(model: Model, predictor: Predictor) -> contract.Score:
    return contract.Score(
        task=model.task,
        output=predictor.score_output,
        column=model.column,
        positive=model.positive,
        labels=list(model.labels),
        label_output=predictor.label_output,
    )


def reference(features: Sequence[contract.Feature], rows: Rows, scores: NDArray[np.float64]) -> contract.Reference:
    """Histograms of the training rows and of the model's scores on them."""
    numeric = [feature.name for feature in features if feature.kind == "numeric"]
    bins = histograms.bins_for(len(numeric))
    categorical = {f.name: histograms.categorical(rows[f.name]) for f in features if f.kind == "categorical"}
    return contract.Reference(
        rows=len(scores),
        numeric={name: histograms.numeric(rows[name], bins) for name in numeric},
        categorical=histograms.within_budget(categorical),
        score=histograms.numeric(scores),
    )


def libraries() -> dict[str, str]:
    """What the model was made with, name to version."""
    return {name: installed(name) for name in _LIBRARIES}


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def encoded(profile: contract.Profile, limit: int = contract.MAX_BYTES) -> bytes:
    """The bytes of profile.json. Raises TooBig: Redis and every gateway hold a copy. What is rare and what is new is
    given up before a model is refused."""
    raw = wire.write_json(profile)
    if len(raw) > limit:
        raw = wire.write_json(_without_rare(profile))
    if len(raw) > limit:
        raise TooBig(f"the profile of {len(profile.inputs)} inputs is {len(raw):,} bytes, a profile may have {limit:,}")
    return raw


def _without_rare(profile: contract.Profile) -> contract.Profile:
    reference = profile.reference
    if reference is None:
        return profile
    plain = {name: msgspec.structs.replace(one, rare=None) for name, one in reference.categorical.items()}
    return msgspec.structs.replace(profile, reference=msgspec.structs.replace(reference, categorical=plain))
