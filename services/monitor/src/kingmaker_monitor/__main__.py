"""Start the monitor.

Exit codes: 0 stopped, 1 broken, 2 settings or port, 3 state file unusable, 4 state file in use.
"""

import asyncio
import sys

from pydantic import ValidationError

from kingmaker_monitor import app
from kingmaker_monitor.errors import MonitorError
from kingmaker_monitor.settings import PREFIX, Settings, unknown_variables
from kingmaker_monitor.store import Store
from kingmaker_servicekit import logs, serving


def main() -> int:
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "__".join(str(part) for part in problem["loc"]).upper()
            _say(f"setting {PREFIX}{name}: {problem['msg']}")
        return 2
    unknown = unknown_variables()
    if unknown:
        _say(f"unknown setting {', '.join(unknown)}")
        return 2
    logs.configure(settings.log_level, settings.log_format)
    try:
        sock = serving.bind(settings.host, settings.port)
    except OSError as error:
        _say(str(error.strerror))
        return 2
    try:
        store = Store.open(settings.state_file)
    except MonitorError as error:
        _say(str(error))
        return error.exit_code
    try:
        with asyncio.Runner() as runner:
            runner.run(app.run(settings, sock, store))
            store.close()
            return serving.leave()
    except MonitorError as error:
        _say(str(error))
        return error.exit_code
    finally:
        store.close()


def _say(text: str) -> None:
    sys.stderr.write(f"kingmaker-monitor: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
