"""Predictions into the columns of an event batch: pure, done once a flush for many requests together.

A request leaves only references behind (its arrays and the outputs); features are joined column by column
here, off the request's path, with numpy over all rows at once.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.events import COLUMNS, NO_LABEL, EventBatch
from kingmaker_contracts.feedback import label_text
from kingmaker_contracts.inference import Tensor
from kingmaker_contracts.labels import REASONS, Reason, Role
from kingmaker_contracts.profile import Profile, Score

MAX_UNSEEN: Final = 256
"""Unseen categories spelled out for one feature of one entry; the rest share the last place."""
MAX_CATEGORY_CHARS: Final = 128
OVERFLOW: Final = "(other unseen)"
_REASON_CODE: Final = {reason: code for code, reason in enumerate(REASONS)}


@dataclass(slots=True, frozen=True, eq=False)
class Answerer:
    """Who answered, as the header of a batch says it: one object a variant and routing revision.

    known_codes: category to code, by categorical feature; label_codes: class to code.
    """

    model: str
    revision: int
    epoch: int
    rollout: str
    variant: str
    version: str
    role: Role
    variants: tuple[str, ...]
    schema: str = ""
    profile: Profile | None = None
    known_codes: dict[str, dict[str, int]] = field(default_factory=dict)
    label_codes: dict[str, int] = field(default_factory=dict)

    @property
    def batch_key(self) -> tuple[str, int, int, str, str, str]:
        return self.model, self.epoch, self.revision, self.variant, self.schema, self.role


def codes_of(profile: Profile | None) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """known_codes and label_codes of an Answerer."""
    if profile is None:
        return {}, {}
    categorical = profile.reference.categorical if profile.reference else {}
    known = {
        feature.name: {
            name: code
            for code, name in enumerate(categorical[feature.name].categories if feature.name in categorical else [])
        }
        for feature in profile.inputs
        if feature.kind == "categorical"
    }
    labels = {label: code for code, label in enumerate(profile.score.labels if profile.score else [])}
    return known, labels


@dataclass(slots=True, frozen=True)
class Prediction:
    """One answered request (rows of one id). answered_us: unix microseconds; latency_us: since arrival;
    inputs: by name, first dimension rows; outputs: None when there was no answer."""

    by: Answerer
    id: bytes
    rows: int
    assigned: int
    reason: Reason
    eligible: int
    key_hash: int
    answered_us: int
    latency_us: int
    status: int
    inputs: dict[str, NDArray[Any]]
    outputs: list[Tensor] | None


def build(predictions: Sequence[Prediction], producer: str, seq: int, sent: int, dropped: int) -> EventBatch:
    """One batch from predictions of one Answerer, in the order they were answered."""
    by = predictions[0].by
    counts = np.array([p.rows for p in predictions])
    t0 = predictions[0].answered_us // 1000
    features, unseen = _features(predictions, by, int(counts.sum()))
    score, label = _outcomes(predictions, by)

    def spread(values: Iterable[int], column: str) -> NDArray[Any]:
        limit = int(np.iinfo(COLUMNS[column]).max)
        return np.repeat(np.array([min(max(v, 0), limit) for v in values], COLUMNS[column]), counts)

    columns = {
        "id": np.repeat(np.frombuffer(b"".join(p.id for p in predictions), COLUMNS["id"]), counts),
        "row": np.concatenate([np.arange(p.rows, dtype=COLUMNS["row"]) for p in predictions]),
        "assigned": spread((p.assigned for p in predictions), "assigned"),
        "reason": spread((_REASON_CODE[p.reason] for p in predictions), "reason"),
        "eligible": spread((p.eligible for p in predictions), "eligible"),
        "key_hash": spread((p.key_hash for p in predictions), "key_hash"),
        "dt": spread((p.answered_us - t0 * 1000 for p in predictions), "dt"),
        "latency": spread((p.latency_us for p in predictions), "latency"),
        "status": spread((p.status for p in predictions), "status"),
        "score": score,
        "label": label,
    }
    return EventBatch(
        producer=producer,
        seq=seq,
        sent=sent,
        dropped=dropped,
        t0=t0,
        revision=by.revision,
        rollout=by.rollout,
        variant=by.variant,
        version=by.version,
        role=by.role,
        schema=by.schema,
        variants=list(by.variants),
        columns=columns,
        features=features,
        unseen=unseen,
    )


def new_producer() -> str:
    """The name of one life of a process."""
    return uuid.uuid4().hex


def _features(
    predictions: Sequence[Prediction], by: Answerer, rows: int
) -> tuple[NDArray[np.float32], dict[str, list[str]]]:
    unseen: dict[str, list[str]] = {}
    if by.profile is None:
        return np.empty((0, rows), np.float32), unseen
    blocks = [np.empty((0, rows), np.float32)]
    for feature in by.profile.inputs:
        width = int(np.prod([max(size, 1) for size in feature.shape[1:]], dtype=int))
        # a challenger's error row may lack nothing, but a variant without a signature may: then the column is missing
        arrays = [
            p.inputs[feature.name].reshape(p.rows, -1)
            if feature.name in p.inputs
            else np.full((p.rows, width), None if feature.datatype == "BYTES" else np.nan)
            for p in predictions
        ]
        joined = np.concatenate(arrays)
        if feature.kind == "categorical":
            block, new = _codes(joined, by.known_codes.get(feature.name, {}))
            if new:
                unseen[feature.name] = new
        elif feature.datatype == "BYTES":  # a text that is no category has no number
            block = np.full(joined.shape, np.nan, np.float32)
        else:
            block = _as_float32(joined)
        blocks.append(block.T)
    return np.concatenate(blocks), unseen


def _as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _codes(array: NDArray[Any], known: dict[str, int]) -> tuple[NDArray[np.float32], list[str]]:
    """Codes of categories, and the ones the profile does not hold in the order of their codes."""
    new: dict[str, int] = {}
    codes = np.empty(array.size, np.float32)
    for at, value in enumerate(array.ravel().tolist()):
        if value is None or value != value:  # noqa: PLR0124 - NaN
            codes[at] = np.nan
            continue
        text = label_text(value)
        code = known.get(text)
        if code is None:
            text = text[:MAX_CATEGORY_CHARS]
            if text not in new and len(new) >= MAX_UNSEEN - 1:
                text = OVERFLOW
            code = new.setdefault(text, len(known) + len(new))
        codes[at] = code
    return codes.reshape(array.shape), list(new)


def _outcomes(predictions: Sequence[Prediction], by: Answerer) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    score_of = by.profile.score if by.profile else None
    scores, labels = [], []
    for p in predictions:
        outputs = {tensor.name: tensor.array for tensor in p.outputs or ()}
        scores.append(_score(outputs, score_of, p.rows))
        labels.append(_labels(outputs, score_of, p.rows, by.label_codes))
    return np.concatenate(scores), np.concatenate(labels)


def _score(outputs: dict[str, NDArray[Any]], score: Score | None, rows: int) -> NDArray[np.float32]:
    array = outputs.get(score.output) if score else None
    if score is None or array is None or array.dtype == object:
        return np.full(rows, np.nan, np.float32)
    columns = array.reshape(rows, -1)
    if not 0 <= score.column < columns.shape[1]:
        return np.full(rows, np.nan, np.float32)
    return _as_float32(columns[:, score.column])


def _labels(
    outputs: dict[str, NDArray[Any]], score: Score | None, rows: int, codes: dict[str, int]
) -> NDArray[np.uint8]:
    array = outputs.get(score.label_output) if score and score.label_output else None
    if array is None or not codes or array.size != rows:
        return np.full(rows, NO_LABEL, np.uint8)
    return np.array(
        [min(codes.get(label_text(value), NO_LABEL), NO_LABEL) for value in array.ravel().tolist()], np.uint8
    )
