"""The real controller with stand-ins for what it starts."""

import sys
from pathlib import Path

from kingmaker_controller import __main__, app

HERE = Path(__file__).parent

sys.exit(
    __main__.main(
        app.Programs(
            fetch=(sys.executable, str(HERE / "stand_in_fetch.py")),
            server=(sys.executable, str(HERE / "stand_in_server.py")),
        )
    )
)
