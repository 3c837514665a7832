"""What labels say about predictions, as counts that can be added and taken away again.

A label that was wrong is replaced by subtracting what it added: both follow from the stored prediction
and the label's text, so nothing else has to be remembered.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.events import NO_LABEL
from kingmaker_contracts.profile import Score
from kingmaker_monitor.aggregates import PAIRS, QUALITY, Aggregate
from kingmaker_monitor.binning import Binning
from kingmaker_monitor.stats import errors, quality

THRESHOLD = 0.5
"""The class of a binary score when the model names none itself."""


class Judged(NamedTuple):
    """A stored prediction with its label. score: NaN for none; code: index of the class or NO_LABEL;
    sign: 1 adds, -1 takes away."""

    score: float
    code: int
    label: str
    sign: int


@dataclass(slots=True, frozen=True)
class Answer:
    """One stored answer of a pair."""

    score: float
    code: int


def predicted(score: float, code: int, meaning: Score | None) -> str | None:
    """The class a prediction stands for; None when it names none."""
    if meaning is None or meaning.task == "regression":
        return None
    if code != NO_LABEL:
        return meaning.labels[code] if code < len(meaning.labels) else None
    if meaning.task == "binary" and meaning.positive is not None and not np.isnan(score):
        negative = next((label for label in meaning.labels if label != meaning.positive), None)
        return meaning.positive if score >= THRESHOLD else negative
    return None


def is_usable(label: str, meaning: Score | None) -> bool:
    """Whether a label is one of the model's classes (any number, for a regression)."""
    if meaning is None:
        return False
    if meaning.task == "regression":
        try:
            return bool(np.isfinite(float(label)))
        except ValueError:
            return False
    return label in meaning.labels or label == meaning.positive


def of_labels(judged: list[Judged], kind: str, binning: Binning | None) -> Aggregate:
    """Quality counts of one variant. kind: "live" or "shadow"; binning None: only a count of nothing."""
    meaning = binning.score_meaning if binning is not None else None
    usable = [one for one in judged if is_usable(one.label, meaning)]
    result = Aggregate()
    if binning is None or meaning is None or not usable:
        return result
    sign = np.array([one.sign for one in usable], np.int64)
    classes = [predicted(one.score, one.code, meaning) for one in usable]
    judging = np.array([found is not None for found in classes])
    right = np.array([found == one.label for found, one in zip(classes, usable, strict=True)])
    counts = np.zeros(len(QUALITY), np.int64)
    counts[QUALITY.index("n")] = sign.sum()
    counts[QUALITY.index("judged")] = sign[judging].sum()
    counts[QUALITY.index("right")] = sign[judging & right].sum()
    if meaning.positive is not None and meaning.task != "regression":
        truth = np.array([one.label == meaning.positive for one in usable])
        score = np.array([one.score for one in usable], np.float64)
        counts[QUALITY.index("positives")] = sign[truth].sum()
        _curve(result, counts, kind, score=score, truth=truth, sign=sign, binning=binning)
    if meaning.task == "regression":
        error = np.array([one.score - float(one.label) for one in usable], np.float64)
        known = np.isfinite(error)
        counts[QUALITY.index("scored")] = sign[known].sum()
        deviation = binning.score.std if binning.score is not None else None
        added, taken = (errors.histogram(error[known & (sign == way)], deviation) for way in (1, -1))
        result.add(f"errors.{kind}", added - taken)
    result.add(f"quality.{kind}", counts)
    return result


def _curve(
    result: Aggregate,
    counts: NDArray[np.int64],
    kind: str,
    *,
    score: NDArray[np.float64],
    truth: NDArray[np.bool_],
    sign: NDArray[np.int64],
    binning: Binning,
) -> None:
    """AUC histograms and probability losses of the rows that have a score."""
    scored = np.isfinite(score)
    counts[QUALITY.index("scored")] = sign[scored].sum()
    for name, chosen in (("positives", scored & truth), ("negatives", scored & ~truth)):
        added = binning.count_scores(score[chosen & (sign > 0)])
        result.add(f"{name}.{kind}", added - binning.count_scores(score[chosen & (sign < 0)]))
    binary = binning.score_meaning is not None and binning.score_meaning.task == "binary"
    with np.errstate(invalid="ignore"):
        probability = scored & (score >= 0) & (score <= 1) & binary
    counts[QUALITY.index("probabilities")] = sign[probability].sum()
    p, y, s = score[probability], truth[probability], sign[probability]
    result.add(
        f"losses.{kind}", np.array([(s * quality.log_losses(p, y)).sum(), (s * quality.brier_losses(p, y)).sum()])
    )


def of_pairs(pairs: list[tuple[Answer, Score | None, Answer, Score | None]]) -> Aggregate:
    """Agreement of champion and challenger on the same rows, before any label."""
    counts = np.zeros(len(PAIRS), np.int64)
    difference = 0.0
    for champion, its_meaning, challenger, meaning in pairs:
        counts[0] += 1
        one, other = predicted(*_key(champion), its_meaning), predicted(*_key(challenger), meaning)
        if one is not None and other is not None:
            counts[PAIRS.index("classed")] += 1
            counts[PAIRS.index("same")] += one == other
        gap = abs(champion.score - challenger.score)
        if np.isfinite(gap):
            counts[PAIRS.index("scored")] += 1
            difference += gap
    return Aggregate({"pairs": counts, "pairs.difference": np.array([difference])})


def of_labelled_pair(champion: str | None, challenger: str | None, label: str, sign: int) -> NDArray[np.int64]:
    """What a label says about a pair of predicted classes: shape (PAIRS,)."""
    counts = np.zeros(len(PAIRS), np.int64)
    if champion is None or challenger is None:
        return counts
    counts[PAIRS.index("labelled")] = sign
    counts[PAIRS.index("champion_only_right")] = sign * (champion == label != challenger)
    counts[PAIRS.index("challenger_only_right")] = sign * (challenger == label != champion)
    return counts


def _key(answer: Answer) -> tuple[float, int]:
    return answer.score, answer.code
