"""How much is measured: the whole in under 15 minutes, or the core ratios in about two."""

import math
from dataclasses import dataclass
from typing import Final


@dataclass(slots=True, frozen=True)
class Plan:
    """runs: rounds of each comparison; own_runs: of those with ourselves, whose bars are closer;
    seconds: length of one run, whole (wrk knows no parts); levels: connections; limit_s: no part begins after it;
    most_s: a part that can measure less begins nothing after it; ends_at: the same, as a moment of time.monotonic()."""

    is_quick: bool
    runs: int
    own_runs: int
    seconds: int
    levels: tuple[int, ...]
    limit_s: float
    most_s: float
    ends_at: float = math.inf

    @property
    def end_to_end_levels(self) -> tuple[int, ...]:
        return self.levels if self.is_quick else (1, 16, 64, 256)


WHOLE: Final = Plan(is_quick=False, runs=5, own_runs=6, seconds=1, levels=(1, 16, 64), limit_s=14 * 60, most_s=15 * 60)
QUICK: Final = Plan(is_quick=True, runs=3, own_runs=6, seconds=1, levels=(64,), limit_s=4 * 60, most_s=5 * 60)
