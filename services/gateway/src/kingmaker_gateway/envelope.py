"""Predictions into the columns of an event batch: pure, done once a flush for many requests together.

A frame leaves only references behind (its arrays, the outputs, and who was in it); features are joined column by
column here, off the request's path, with numpy over all rows at once.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.events import COLUMNS, NO_LABEL, EventBatch
from kingmaker_contracts.feedback import label_text
from kingmaker_contracts.inference import Tensor
from kingmaker_contracts.labels import REASONS, Reason, Role
from kingmaker_contracts.profile import Feature, Profile, Score

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


class Entry(Protocol):
    """One answered request as the recorder sees it (rows of one id). answered_us: unix microseconds; latency_us:
    since arrival; eligible, key_hash: see contracts.events."""

    @property
    def id(self) -> bytes: ...
    @property
    def rows(self) -> int: ...
    @property
    def assigned(self) -> int: ...
    @property
    def reason(self) -> Reason: ...
    @property
    def eligible(self) -> int: ...
    @property
    def key_hash(self) -> int: ...
    @property
    def answered_us(self) -> int: ...
    @property
    def latency_us(self) -> int: ...
    @property
    def status(self) -> int: ...


@dataclass(slots=True, frozen=True)
class Common:
    """What holds for every entry of a run in place of the entry's own: a shadow answers for itself."""

    reason: Reason
    status: int
    latency_us: int
    answered_us: int


class Recorded(Protocol):
    """Requests that share arrays: what `build` makes columns of. inputs: by name; outputs: None when there was no
    answer; index: which rows of the arrays are theirs, in order, None for all of them; rows: theirs, together."""

    @property
    def by(self) -> Answerer: ...
    @property
    def entries(self) -> Sequence[Entry]: ...
    @property
    def rows(self) -> int: ...
    @property
    def inputs(self) -> dict[str, NDArray[Any]]: ...
    @property
    def outputs(self) -> list[Tensor] | None: ...
    @property
    def index(self) -> NDArray[np.intp] | None: ...
    @property
    def common(self) -> Common | None: ...


@dataclass(slots=True, eq=False)
class Run:
    """A coalesced frame and who was in it, by reference."""

    by: Answerer
    entries: Sequence[Entry]
    rows: int
    inputs: dict[str, NDArray[Any]]
    outputs: list[Tensor] | None
    index: NDArray[np.intp] | None = None
    common: Common | None = None


@dataclass(slots=True, frozen=True)
class Prediction:
    """A run of one request that has arrays of its own. Fields as in Entry and Run."""

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

    @property
    def entries(self) -> Sequence[Entry]:
        return (self,)

    @property
    def index(self) -> None:
        return None

    @property
    def common(self) -> None:
        return None


def build(runs: Sequence[Recorded], producer: str, seq: int, sent: int, dropped: int) -> EventBatch:
    """One batch from runs of one Answerer, in the order they were answered."""
    by = runs[0].by
    entries = [entry for run in runs for entry in run.entries]
    counts = np.array([entry.rows for entry in entries])
    answered_us = _own(runs, attrgetter("answered_us"))
    t0 = answered_us[0] // 1000
    features, unseen = _features(runs, by, int(counts.sum()))
    score, label = _outcomes(runs, by)
    is_single = len(counts) == int(counts.sum())

    def spread(values: list[int], column: str) -> NDArray[Any]:
        limit = int(np.iinfo(COLUMNS[column]).max)
        wide = np.array(values, np.uint64 if column == "key_hash" else np.int64)
        narrow = np.clip(wide, 0, limit).astype(COLUMNS[column])
        return narrow if is_single else np.repeat(narrow, counts)

    ids = np.frombuffer(b"".join([entry.id for entry in entries]), COLUMNS["id"])
    columns = {
        "id": ids if is_single else np.repeat(ids, counts),
        "row": np.zeros(len(counts), COLUMNS["row"])
        if is_single
        else np.concatenate([np.arange(count, dtype=COLUMNS["row"]) for count in counts.tolist()]),
        "assigned": spread([entry.assigned for entry in entries], "assigned"),
        "reason": spread([_REASON_CODE[reason] for reason in _own(runs, attrgetter("reason"))], "reason"),
        "eligible": spread([entry.eligible for entry in entries], "eligible"),
        "key_hash": spread([entry.key_hash for entry in entries], "key_hash"),
        "dt": spread([moment - t0 * 1000 for moment in answered_us], "dt"),
        "latency": spread(_own(runs, attrgetter("latency_us")), "latency"),
        "status": spread(_own(runs, attrgetter("status")), "status"),
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


def _own(runs: Sequence[Recorded], get: Callable[[Any], Any]) -> list[Any]:
    """A value of every entry, or the one that holds for all of its run."""
    values: list[Any] = []
    for run in runs:
        if run.common is None:
            values += map(get, run.entries)
        else:
            values += [get(run.common)] * len(run.entries)
    return values


def _features(runs: Sequence[Recorded], by: Answerer, rows: int) -> tuple[NDArray[np.float32], dict[str, list[str]]]:
    unseen: dict[str, list[str]] = {}
    if by.profile is None:
        return np.empty((0, rows), np.float32), unseen
    blocks = [np.empty((0, rows), np.float32)]
    for feature in by.profile.inputs:
        width = int(np.prod([max(size, 1) for size in feature.shape[1:]], dtype=int))
        arrays = [_block(run, feature, width) for run in runs]
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
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


def _block(run: Recorded, feature: Feature, width: int) -> NDArray[Any]:
    """Rows by values. Missing where the run has none (a challenger's error row may lack nothing, but a variant without
    a signature may), or a number of values of its own (a size the model leaves open fits no column)."""
    array = run.inputs.get(feature.name)
    if array is not None:
        block = _rows(array, run).reshape(run.rows, -1)
        if block.shape[1] == width:
            return block
    return np.full((run.rows, width), None if feature.datatype == "BYTES" else np.nan)


def _rows(array: NDArray[Any], run: Recorded) -> NDArray[Any]:
    return array if run.index is None else array[run.index]


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


def _outcomes(runs: Sequence[Recorded], by: Answerer) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    score_of = by.profile.score if by.profile else None
    scores, labels = [], []
    for run in runs:
        outputs = {tensor.name: _rows(tensor.array, run) for tensor in run.outputs or ()}
        scores.append(_score(outputs, score_of, run.rows))
        labels.append(_labels(outputs, score_of, run.rows, by.label_codes))
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
