"""What is simulated: sample sizes, kinds of drift, and how many models of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.verdicts.populations import NOTHING, Category, Change, Number, Population
from benchmarks.verdicts.simulation import Alarms, Power, false_alarms, power

SIZES: Final = (500, 1000, 5000, 50_000)
SMALL: Final = (50, 100, 200)
SHIFTS: Final = (0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1.0)
OTHERS: Final[tuple[tuple[str, Population, Change], ...]] = (
    ("a number's deviation grows by a quarter", Number(), Change(spread=1.25)),
    ("a number's deviation grows by half", Number(), Change(spread=1.5)),
    ("a number's deviation doubles", Number(), Change(spread=2.0)),
    ("missing values, 1 % to 5 %", Number(), Change(missing=0.05)),
    ("missing values, 1 % to 10 %", Number(), Change(missing=0.1)),
    ("missing values, 1 % to 20 %", Number(), Change(missing=0.2)),
    ("a new category takes 1 %", Category(10), Change(new=0.01)),
    ("a new category takes 2 %", Category(10), Change(new=0.02)),
    ("a new category takes 5 %", Category(10), Change(new=0.05)),
    ("5 % of rows change from the first of ten categories to the last", Category(10), Change(swapped=0.05)),
    ("10 % of rows likewise", Category(10), Change(swapped=0.1)),
    ("20 % of rows likewise", Category(10), Change(swapped=0.2)),
    ("10 % of rows from the first of a hundred categories to the last", Category(100), Change(swapped=0.1)),
)
ODD: Final = Change(shift=2.0)
HISTORIES: Final = {
    "two windows ago only": [ODD, NOTHING, NOTHING],
    "the window before only": [NOTHING, ODD, NOTHING],
    "the newest window only": [NOTHING, NOTHING, ODD],
    "the newest two": [NOTHING, ODD, ODD],
}


@dataclass(frozen=True, slots=True)
class Report:
    """small: without drift below the floor; training, champion: without drift, by reference; shifts: of a number's
    mean; others: by name; odd: a column that was far off for some windows, by which."""

    small: list[Alarms]
    training: list[Alarms]
    champion: list[Alarms]
    shifts: list[Power]
    others: dict[str, list[Power]]
    odd: dict[str, Power]


def run(looks: int, powered: int, say: Callable[[str], None]) -> Report:
    """looks: models without drift of each kind; powered: models with; say: told what is done. About three minutes
    with 1000 and 300."""

    def still(n: int, *, beside_champion: bool = False, looks: int = looks) -> Alarms:
        say(f"no drift, {n:,} rows{' beside the champion' if beside_champion else ''}")
        return false_alarms(n + beside_champion, n=n, looks=looks, beside_champion=beside_champion)

    def moved(name: str, population: Population, changes: list[Change], n: int) -> Power:
        say(f"{name}, {n:,} rows")
        return power(n, population, changes, n=n, looks=powered)

    shifted = [(n, Change(shift=shift)) for n in SIZES for shift in SHIFTS]
    return Report(
        small=[still(n, looks=max(1, looks // 5)) for n in SMALL],
        training=[still(n) for n in SIZES],
        champion=[still(n, beside_champion=True) for n in SIZES],
        shifts=[moved(f"mean moved by {change.shift:g}", Number(), [change] * 3, n) for n, change in shifted],
        others={name: [moved(name, kind, [change] * 3, n) for n in SIZES] for name, kind, change in OTHERS},
        odd={name: moved(name, Number(), changes, SIZES[0]) for name, changes in HISTORIES.items()},
    )
