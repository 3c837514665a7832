"""The real controller and real model servers; only the registry is a folder of files."""

import sys
from pathlib import Path

from kingmaker_controller import __main__, app

FETCH = Path(__file__).parents[2] / "services" / "controller" / "tests" / "stand_in_fetch.py"

sys.exit(__main__.main(app.Programs(fetch=(sys.executable, str(FETCH)))))
