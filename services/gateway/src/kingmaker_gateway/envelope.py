"""Runs of answered requests into the columns of an event batch: pure, done once a flush for many together.

Columns are made here, off the requests' path, with numpy over all rows at once. Frames of one form, which is what comes
by the thousand, are joined in one step; only the odd ones are looked at one by one.
"""

import uuid
from collections.abc import Sequence
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.events import COLUMNS, NO_LABEL, EventBatch
from kingmaker_contracts.feedback import label_text
from kingmaker_contracts.labels import REASONS
from kingmaker_contracts.profile import Feature, Score, width_of
from kingmaker_gateway.answerers import Answerer, Codes
from kingmaker_gateway.lone import form_of, inputs_together, outputs_together
from kingmaker_gateway.runs import Mark, Run, key_hashes

MAX_UNSEEN: Final = 256
"""Unseen categories spelled out for one feature of one entry; the rest share the last place."""
MAX_CATEGORY_CHARS: Final = 128
OVERFLOW: Final = "(other unseen)"
_REASON_CODE: Final = {reason: code for code, reason in enumerate(REASONS)}
_MOST: Final = {name: int(np.iinfo(dtype).max) for name, dtype in COLUMNS.items() if dtype.kind == "u"}
_MARKED: Final = ("assigned", "reason", "eligible", "status")
"""The columns that Marks hold, in their order, behind rows."""
ALL: Final = slice(None)
TURNED_AT_ONCE: Final = 256
"""Rows made columns in one step: as many as the processor's nearest cache holds, of some dozens of features."""


def build(runs: Sequence[Run], producer: str, seq: int, sent: int, dropped: int) -> EventBatch:
    """One batch from runs of one Answerer, in the order they were answered; without features when no run has inputs."""
    by = runs[0].by
    rows = sum(_of_each(runs, "rows"))
    t0 = runs[0].answered_us // 1000
    columns = _columns(runs, t0 * 1000)
    with np.errstate(over="ignore"):
        columns["score"], columns["label"] = _outcomes(runs, by, rows)
        features, unseen = _features(runs, by, rows)
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
        withheld=list(dict.fromkeys(by.withheld.values())),
    )


def new_producer() -> str:
    """The name of one life of a process."""
    return uuid.uuid4().hex


def _columns(runs: Sequence[Run], since_us: int) -> dict[str, NDArray[Any]]:
    """All but the outcomes. One element stands for that value in every row, see contracts.events."""
    latencies_s = _of_each(runs, "latencies_s")
    requests = list(map(len, latencies_s))
    marks, which = _marks(runs, requests)
    sizes, *values = zip(*marks, strict=True)
    values[1] = tuple([_REASON_CODE[reason] for reason in values[1]])
    columns = {}
    for name, column in zip(_MARKED, values, strict=True):
        held = np.array([_held(name, value) for value in column], COLUMNS[name])
        columns[name] = held if which is None else held[which]
    columns["id"] = np.frombuffer(b"".join(_of_each(runs, "ids")), COLUMNS["id"])
    columns["key_hash"] = _key_hashes(runs)
    after_us = np.array(_of_each(runs, "answered_us")) - since_us
    columns["dt"] = np.minimum(np.maximum(after_us, 0), _MOST["dt"]).astype(COLUMNS["dt"]).repeat(requests)
    latencies_us = np.frombuffer(b"".join(latencies_s)) * 1e6
    columns["latency"] = np.minimum(latencies_us, _MOST["latency"]).astype(COLUMNS["latency"])
    if max(sizes) == 1:
        columns["row"] = np.zeros(1, COLUMNS["row"])
        return columns
    return _spread(columns, np.array(sizes).repeat(sum(requests)) if which is None else np.array(sizes)[which])


def _spread(columns: dict[str, NDArray[Any]], sizes: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Columns of requests as columns of their rows. sizes: rows of each request."""
    spread = {name: column if len(column) == 1 else column.repeat(sizes) for name, column in columns.items()}
    spread["id"] = columns["id"].repeat(sizes)
    ends = sizes.cumsum()
    spread["row"] = (np.arange(ends[-1]) - (ends - sizes).repeat(sizes)).astype(COLUMNS["row"])
    return spread


def _marks(runs: Sequence[Run], requests: list[int]) -> tuple[list[Mark], NDArray[np.intp] | None]:
    """The marks there are, and which one each request has; None: all have the same."""
    marks = list(dict.fromkeys(chain.from_iterable(_of_each(runs, "marks"))))
    if len(marks) == 1:
        return marks, None
    place = {mark: at for at, mark in enumerate(marks)}
    found = np.array([place[mark] for run in runs for mark in run.marks])
    times = [[count] if len(run.marks) == 1 else [1] * count for run, count in zip(runs, requests, strict=True)]
    return marks, found.repeat(list(chain.from_iterable(times)))


def _key_hashes(runs: Sequence[Run]) -> NDArray[Any]:
    hashes = _of_each(runs, "key_hashes")
    if runs[0].by.withholds_key or hashes.count(None) == len(hashes):
        return np.zeros(1, COLUMNS["key_hash"])
    return np.frombuffer(key_hashes(runs), np.uint64)


def _held(name: str, value: int) -> int:
    """Clipped to what the column holds."""
    return max(0, min(value, _MOST[name]))


def _features(runs: Sequence[Run], by: Answerer, rows: int) -> tuple[NDArray[np.float32], dict[str, list[str]]]:
    unseen: dict[str, list[str]] = {}
    if by.profile is None or not any(run.inputs for run in runs):
        return np.empty((0, rows), np.float32), unseen
    inputs = by.profile.inputs
    widths = list(map(width_of, inputs))
    features = np.empty((sum(widths), rows), np.float32)
    first = 0
    for feature, width in zip(inputs, widths, strict=True):
        place = features[first : first + width]
        shown = _shown(by, first, width)
        first += width
        if shown != ALL:
            place.fill(np.nan)
        if not shown:
            continue
        values = _values(runs, feature, width, rows)[:, shown]
        if feature.kind == "categorical":
            values, new = _codes(values, by.known_codes.get(feature.name, Codes({})))
            if new:
                unseen[feature.name] = new
        elif feature.datatype == "BYTES":  # a text that is no category has no number
            place.fill(np.nan)
            continue
        for at in range(0, rows, TURNED_AT_ONCE):
            place[shown, at : at + TURNED_AT_ONCE] = values[at : at + TURNED_AT_ONCE].T
    return features, unseen


def _shown(by: Answerer, first: int, width: int) -> list[int] | slice:
    """Which columns of a feature may be recorded: what is not, is not looked at either."""
    if not by.withheld:
        return ALL
    return [at for at in range(width) if first + at not in by.withheld]


def _values(runs: Sequence[Run], feature: Feature, width: int, rows: int) -> NDArray[Any]:
    """Of one feature: rows by values."""
    try:
        joined = _joined(list(map(itemgetter(feature.name), inputs_together(_of_each(runs, "inputs")))))
        if joined.shape[0] == rows and joined.size == rows * width:
            return joined.reshape(rows, width)
    except (KeyError, ValueError):  # some have none, or another form
        pass
    return np.concatenate([_block(run, feature, width) for run in runs])


def _block(run: Run, feature: Feature, width: int) -> NDArray[Any]:
    """Rows by values. Missing where the run has none (a challenger's error row may lack nothing, but a variant without
    a signature may), or a number of values of its own (a size the model leaves open fits no column)."""
    array = run.inputs.get(feature.name)
    if array is not None:
        block = array.reshape(run.rows, -1)
        if block.shape[1] == width:
            return block
    return np.full((run.rows, width), None if feature.datatype == "BYTES" else np.nan)


def _of_each(things: Sequence[Any], name: str) -> list[Any]:
    """That attribute of each, in C: where requests travel alone there is a run for each of them."""
    return list(map(attrgetter(name), things))


def _joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _codes(array: NDArray[Any], codes_of: Codes) -> tuple[NDArray[Any], list[str]]:
    """Codes of categories, and the ones the profile does not hold in the order of their codes."""
    found = codes_of.of(array)
    unknown = np.flatnonzero(found == Codes.UNKNOWN).tolist()
    if not unknown:
        return found.reshape(array.shape), []
    first = codes_of.first_free
    new: dict[str, int] = {}
    codes = found.astype(np.float32)
    values = array.ravel()
    for at in unknown:
        value = values.item(at)
        if value is None or value != value or not (text := label_text(value)):  # noqa: PLR0124 - NaN
            codes[at] = np.nan  # an empty text is a missing one, as in training
            continue
        text = text[:MAX_CATEGORY_CHARS]
        if text not in new and len(new) >= MAX_UNSEEN - 1:
            text = OVERFLOW
        codes[at] = new.setdefault(text, first + len(new))
    return codes.reshape(array.shape), list(new)


def _outcomes(runs: Sequence[Run], by: Answerer, rows: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scores and labels."""
    score = by.profile.score if by.profile else None
    wanted = [] if score is None else [name for name in (score.output, score.label_output) if name]
    alike = _outputs_alike(runs, wanted)
    if alike is not None:
        return _score(alike, score, rows), _labels(alike, score, rows, by.label_codes)
    scores, labels = [], []
    for _, group in groupby(runs, _form_of_outputs):
        together = list(group)
        count = sum([run.rows for run in together])
        outputs = _outputs(together)
        scores.append(_score(outputs, score, count))
        labels.append(_labels(outputs, score, count, by.label_codes))
    return np.concatenate(scores), np.concatenate(labels)


def _outputs_alike(runs: Sequence[Run], wanted: list[str]) -> dict[str, NDArray[Any]] | None:
    """The wanted outputs of all runs, by name; None: not all runs have them, in the same place and form."""
    found: dict[str, NDArray[Any]] = {}
    given = _of_each(runs, "outputs")
    if None in given:
        return None
    outputs = outputs_together(given)
    names = _of_each(outputs[0], "name")
    for name in wanted:
        if name not in names:
            return None
        try:
            tensors = list(map(itemgetter(names.index(name)), outputs))
            if _of_each(tensors, "name").count(name) < len(outputs):
                return None
            found[name] = _joined(_of_each(tensors, "array"))
        except (IndexError, ValueError):
            return None
    return found


def _form_of_outputs(run: Run) -> list[tuple[str, tuple[int, ...]]] | None:
    return None if run.outputs is None else form_of(run.outputs)


def _outputs(runs: Sequence[Run]) -> dict[str, NDArray[Any]]:
    """By name, one row after another."""
    columns: dict[str, list[NDArray[Any]]] = {}
    for outputs in outputs_together([run.outputs for run in runs if run.outputs is not None]):
        for tensor in outputs:
            columns.setdefault(tensor.name, []).append(tensor.array)
    return {name: _joined(arrays) for name, arrays in columns.items()}


def _score(outputs: dict[str, NDArray[Any]], score: Score | None, rows: int) -> NDArray[np.float32]:
    array = outputs.get(score.output) if score else None
    if score is None or array is None or array.dtype == object:
        return np.full(rows, np.nan, np.float32)
    columns = array.reshape(rows, -1)
    if not 0 <= score.column < columns.shape[1]:
        return np.full(rows, np.nan, np.float32)
    return columns[:, score.column].astype(np.float32)


def _labels(outputs: dict[str, NDArray[Any]], score: Score | None, rows: int, codes: Codes) -> NDArray[np.uint8]:
    array = outputs.get(score.label_output) if score and score.label_output else None
    if array is None or not codes.first_free or array.size != rows:
        return np.full(rows, NO_LABEL, np.uint8)
    found = codes.of(array)
    if codes.first_free > NO_LABEL:
        found = np.minimum(found, NO_LABEL)
    return found.astype(np.uint8)  # in 8 bits UNKNOWN is NO_LABEL
