"""What a label changes, for one prediction and all the answers that are known of it.

The effect of a label is a function of the stored answers and the label's text. Whenever either changes,
the old effect is taken away and the new one added; so the order in which live answer, shadow answer and
label arrive does not matter.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from kingmaker_contracts.profile import Score
from kingmaker_monitor.binning import Binning
from kingmaker_monitor.ingest.changes import Changes
from kingmaker_monitor.ingest.truth import Answer, Judged, is_usable, of_labelled_pair, of_labels, of_pairs, predicted
from kingmaker_monitor.profiles import Profiles
from kingmaker_monitor.state import Arm
from kingmaker_monitor.windows import pane_of

FAIR: Final = 0
"""A live answer the split chose."""
OTHER: Final = 1
"""A live answer for another reason: override, fallback, ineligible. It stays out of quality."""
SHADOW: Final = 2


@dataclass(slots=True, frozen=True)
class Stored:
    """A row of the predictions table. number: rises in the order of arrival; at: unix milliseconds;
    segments: the arms of its segments."""

    number: int
    arm: int
    kind: int
    score: float
    code: int
    at: int
    segments: tuple[int, ...] = ()

    @property
    def answer(self) -> Answer:
        return Answer(self.score, self.code)


def live_of(answers: list[Stored]) -> Stored:
    """The answer the client got. Raises StopIteration when none is known yet."""
    return next(answer for answer in answers if answer.kind != SHADOW)


class Judging:
    """Effects of one round, gathered row by row and counted with numpy at the end. arms: by number."""

    def __init__(self, arms: dict[int, Arm], profiles: Profiles) -> None:
        self._arms = arms
        self._profiles = profiles
        self._labels: defaultdict[tuple[int, int, str], list[Judged]] = defaultdict(list)
        self._pairs: defaultdict[tuple[int, int], list[tuple[Stored, Stored]]] = defaultdict(list)
        self._labelled: list[tuple[Stored, Stored, str, int]] = []

    def label(self, answers: list[Stored], label: str, sign: int, arms: Collection[int] | None = None) -> None:
        """Enter the effect of a label; sign -1 takes it away. Without a live answer it has none.

        arms: no more of it than what these arms have part in.
        """
        if all(answer.kind == SHADOW for answer in answers):
            return
        for answer in answers:
            if answer.kind != OTHER and (arms is None or answer.arm in arms):
                kind = "shadow" if answer.kind == SHADOW else "live"
                judged = Judged(answer.score, answer.code, label, sign)
                for arm in (answer.arm, *answer.segments):
                    self._labels[arm, pane_of(answer.at), kind].append(judged)
        for one in answers:
            for other in answers:
                if self._is_pair(one, other) and (arms is None or one.arm in arms or other.arm in arms):
                    self._labelled.append((one, other, label, sign))

    def meet(self, one: Stored, other: Stored) -> None:
        """Enter two answers to the same row, in any order; only champion and shadow make a pair."""
        champion, shadow = (other, one) if one.kind == SHADOW else (one, other)
        if self._is_pair(champion, shadow):
            self._pairs[shadow.arm, pane_of(shadow.at)].append((champion, shadow))

    def is_usable(self, answers: list[Stored], label: str) -> bool:
        """Whether the label is a class of the model that answered."""
        binning = self._binning(live_of(answers).arm)
        return binning is not None and is_usable(label, binning.score_meaning)

    def count(self, changes: Changes) -> None:
        """Add everything that was entered."""
        for (arm, pane, kind), judged in self._labels.items():
            changes.of(arm, pane).merge(of_labels(judged, kind, self._binning(arm)))
        for (arm, pane), pairs in self._pairs.items():
            meaning = self._meaning(arm)
            counted = of_pairs([(one.answer, self._meaning(one.arm), two.answer, meaning) for one, two in pairs])
            changes.of(arm, pane).merge(counted)
        for champion, shadow, label, sign in self._labelled:
            meaning = self._meaning(shadow.arm)
            if not is_usable(label, meaning):
                continue
            one = predicted(champion.score, champion.code, self._meaning(champion.arm))
            two = predicted(shadow.score, shadow.code, meaning)
            changes.of(shadow.arm, pane_of(shadow.at)).add("pairs", of_labelled_pair(one, two, label, sign))

    def _is_pair(self, one: Stored, other: Stored) -> bool:
        if one.kind == SHADOW or other.kind != SHADOW:
            return False
        champion, challenger = self._arms[one.arm], self._arms[other.arm]
        return champion.role == "champion" and champion.rollout == challenger.rollout

    def _binning(self, arm: int) -> Binning | None:
        return self._profiles.get(self._arms[arm].schema)

    def _meaning(self, arm: int) -> Score | None:
        binning = self._binning(arm)
        return None if binning is None else binning.score_meaning
