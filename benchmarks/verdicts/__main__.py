"""`python -m benchmarks.verdicts`: simulate, and fill docs/statistics.md and its plots. About three minutes; seeded, so
the same code gives the same page."""

import argparse
import time
from typing import Final

from benchmarks import folders
from benchmarks.verdicts import page, plots, scenarios

DOCUMENT: Final = folders.REPOSITORY / "docs" / "statistics.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts", description=__doc__)
    parser.add_argument("--looks", type=int, default=1000, help="models without drift, of each kind")
    parser.add_argument("--powered", type=int, default=300, help="models with drift, of each kind")
    wanted = parser.parse_args()
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {text}", flush=True)

    report = scenarios.run(wanted.looks, wanted.powered, say)
    DOCUMENT.write_text(page.filled(DOCUMENT.read_text(), report))
    plots.false_alarms(report, DOCUMENT.with_name("statistics-false-alarms.svg"))
    plots.power(report, DOCUMENT.with_name("statistics-power.svg"))
    say(f"{DOCUMENT.relative_to(folders.REPOSITORY)} is filled")


if __name__ == "__main__":
    main()
