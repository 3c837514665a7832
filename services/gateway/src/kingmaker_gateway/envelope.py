"""Answered requests into the columns of an event batch: pure, done once a flush for many requests together.

A frame leaves only references behind (its arrays, the outputs, and a tuple for each request); columns are made here,
off the requests' path, with numpy over all rows at once.
"""

import uuid
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.events import COLUMNS, NO_LABEL, EventBatch
from kingmaker_contracts.feedback import label_text
from kingmaker_contracts.inference import Tensor
from kingmaker_contracts.labels import REASONS, Reason
from kingmaker_contracts.profile import Feature, Score
from kingmaker_gateway.answerers import Answerer, Codes

MAX_UNSEEN: Final = 256
"""Unseen categories spelled out for one feature of one entry; the rest share the last place."""
MAX_CATEGORY_CHARS: Final = 128
OVERFLOW: Final = "(other unseen)"
_REASON_CODE: Final = {reason: code for code, reason in enumerate(REASONS)}

Entry = tuple[bytes, int, int, Reason, int, int, int, int, int]
"""One answered request: id, rows, assigned, reason, eligible, key_hash (all as contracts.events has them), when it was
answered (unix microseconds), latency (microseconds), status. A bare tuple: thousands become columns at once."""

UNANSWERED: Final[Entry] = (b"", 0, 0, "weight", 0, 0, 0, 0, 0)


class Run(msgspec.Struct, eq=False):
    """Requests that share arrays: a coalesced frame and who was in it, by reference.

    inputs: by name; outputs: None when there was no answer; index: which rows of the arrays are theirs, in order, None
    for all of them; rows: theirs, together.
    """

    by: Answerer
    entries: list[Entry]
    rows: int
    inputs: dict[str, NDArray[Any]]
    outputs: list[Tensor] | None
    index: NDArray[np.intp] | None = None


def as_shadow(entry: Entry, answered_us: int, latency_us: int, status: int) -> Entry:
    """The entry of a copy: a shadow answers for itself."""
    id, rows, assigned, _, eligible, key_hash, *_ = entry
    return id, rows, assigned, "shadow", eligible, key_hash, answered_us, latency_us, status


def build(runs: Sequence[Run], producer: str, seq: int, sent: int, dropped: int) -> EventBatch:
    """One batch from runs of one Answerer, in the order they were answered."""
    by = runs[0].by
    ids, rows, assigned, reasons, eligible, key_hash, answered_us, latency_us, status = zip(
        *[entry for run in runs for entry in run.entries], strict=True
    )
    t0 = answered_us[0] // 1000
    columns = {
        "id": np.frombuffer(b"".join(ids), COLUMNS["id"]),
        "row": np.zeros(len(ids), COLUMNS["row"]),
        "assigned": _column(assigned, "assigned"),
        "reason": _column([_REASON_CODE[reason] for reason in reasons], "reason"),
        "eligible": _column(eligible, "eligible"),
        "key_hash": _column(key_hash, "key_hash"),
        "dt": _column(answered_us, "dt", since=t0 * 1000),
        "latency": _column(latency_us, "latency"),
        "status": _column(status, "status"),
    }
    count = sum(rows)
    if count != len(rows):
        columns = {name: np.repeat(column, rows) for name, column in columns.items()}
        columns["row"] = np.concatenate([np.arange(size, dtype=COLUMNS["row"]) for size in rows])
    columns["score"], columns["label"] = _outcomes(runs, by)
    features, unseen = _features(runs, by, count)
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
        rare=[name for name, codes in by.known_codes.items() if codes.tells_rare],
    )


def new_producer() -> str:
    """The name of one life of a process."""
    return uuid.uuid4().hex


def _column(values: Sequence[int], name: str, since: int = 0) -> NDArray[Any]:
    """Clipped to what the column holds. Most columns hold one value over and over."""
    dtype = COLUMNS[name]
    wide = np.uint64 if name == "key_hash" else np.int64
    is_constant = values.count(values[0]) == len(values)
    found = np.array(values[:1] if is_constant else values, wide)
    if since:
        found -= since
    narrow = np.clip(found, 0, int(np.iinfo(dtype).max)).astype(dtype)
    return np.full(len(values), narrow[0]) if is_constant else narrow


def _features(runs: Sequence[Run], by: Answerer, rows: int) -> tuple[NDArray[np.float32], dict[str, list[str]]]:
    unseen: dict[str, list[str]] = {}
    if by.profile is None:
        return np.empty((0, rows), np.float32), unseen
    blocks = [np.empty((0, rows), np.float32)]
    for feature in by.profile.inputs:
        width = int(np.prod([max(size, 1) for size in feature.shape[1:]], dtype=int))
        arrays = [_block(run, feature, width) for run in runs]
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        if feature.kind == "categorical":
            block, new = _codes(joined, by.known_codes.get(feature.name, Codes({})))
            if new:
                unseen[feature.name] = new
        elif feature.datatype == "BYTES":  # a text that is no category has no number
            block = np.full(joined.shape, np.nan, np.float32)
        else:
            block = _as_float32(joined)
        blocks.append(block.T)
    return np.concatenate(blocks), unseen


def _block(run: Run, feature: Feature, width: int) -> NDArray[Any]:
    """Rows by values. Missing where the run has none (a challenger's error row may lack nothing, but a variant without
    a signature may), or a number of values of its own (a size the model leaves open fits no column)."""
    array = run.inputs.get(feature.name)
    if array is not None:
        block = _rows(array, run).reshape(run.rows, -1)
        if block.shape[1] == width:
            return block
    return np.full((run.rows, width), None if feature.datatype == "BYTES" else np.nan)


def _rows(array: NDArray[Any], run: Run) -> NDArray[Any]:
    return array if run.index is None else array[run.index]


def _as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _codes(array: NDArray[Any], codes_of: Codes) -> tuple[NDArray[np.float32], list[str]]:
    """Codes of categories, and the ones the profile does not hold in the order of their codes."""
    found = codes_of.of(array)
    if Codes.UNKNOWN not in found:
        return np.array(found, np.float32).reshape(array.shape), []
    first = codes_of.first_free
    new: dict[str, int] = {}
    codes = np.array(found, np.float32)
    for at, value in enumerate(array.ravel().tolist()):
        if found[at] != Codes.UNKNOWN:
            continue
        if value is None or value != value or not (text := label_text(value)):  # noqa: PLR0124 - NaN
            codes[at] = np.nan  # an empty text is a missing one, as in training
            continue
        text = text[:MAX_CATEGORY_CHARS]
        if text not in new and len(new) >= MAX_UNSEEN - 1:
            text = OVERFLOW
        codes[at] = new.setdefault(text, first + len(new))
    return codes.reshape(array.shape), list(new)


def _outcomes(runs: Sequence[Run], by: Answerer) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scores and labels; runs whose outputs have one form are looked at together."""
    score_of = by.profile.score if by.profile else None
    scores, labels = [], []
    for _, group in groupby(runs, _form_of_outputs):
        together = list(group)
        rows = sum([run.rows for run in together])
        outputs = _outputs(together)
        scores.append(_score(outputs, score_of, rows))
        labels.append(_labels(outputs, score_of, rows, by.label_codes))
    return np.concatenate(scores), np.concatenate(labels)


def _form_of_outputs(run: Run) -> list[tuple[str, tuple[int, ...]]] | None:
    return None if run.outputs is None else [(tensor.name, tensor.array.shape[1:]) for tensor in run.outputs]


def _outputs(runs: Sequence[Run]) -> dict[str, NDArray[Any]]:
    """By name, one row after another."""
    columns: dict[str, list[NDArray[Any]]] = {}
    for run in runs:
        for tensor in run.outputs or ():
            columns.setdefault(tensor.name, []).append(_rows(tensor.array, run))
    return {name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays) for name, arrays in columns.items()}


def _score(outputs: dict[str, NDArray[Any]], score: Score | None, rows: int) -> NDArray[np.float32]:
    array = outputs.get(score.output) if score else None
    if score is None or array is None or array.dtype == object:
        return np.full(rows, np.nan, np.float32)
    columns = array.reshape(rows, -1)
    if not 0 <= score.column < columns.shape[1]:
        return np.full(rows, np.nan, np.float32)
    return _as_float32(columns[:, score.column])


def _labels(outputs: dict[str, NDArray[Any]], score: Score | None, rows: int, codes: Codes) -> NDArray[np.uint8]:
    array = outputs.get(score.label_output) if score and score.label_output else None
    if array is None or not codes.first_free or array.size != rows:
        return np.full(rows, NO_LABEL, np.uint8)
    found = np.array(codes.of(array))
    return np.where((found < 0) | (found > NO_LABEL), NO_LABEL, found).astype(np.uint8)
