"""Where the benchmarks keep what they install, build and measure."""

from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
BUILD: Final = REPOSITORY / "build" / "bench"
ENVS: Final = BUILD / "envs"
DEBIAN: Final = BUILD / "debian"
MODELS: Final = BUILD / "models"
RAW: Final = BUILD / "raw"
RUN: Final = BUILD / "run"
"""Configurations and logs of the processes of one run; made anew by each."""
QUICK: Final = REPOSITORY / "build" / "bench-quick.json"
RESULTS: Final = REPOSITORY / "benchmarks" / "results"
PEERS: Final = REPOSITORY / "benchmarks" / "peers"
