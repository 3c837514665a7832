"""`python -m kingmaker_controller`. Exit codes: 0 stopped by a signal, 2 settings, 3 port taken, 4 not the leader."""

import asyncio
import os
import sys
from collections.abc import Mapping

from pydantic import ValidationError

from kingmaker_controller import app
from kingmaker_controller.errors import BadSettings, ControllerError
from kingmaker_controller.settings import PREFIX, Settings
from kingmaker_servicekit import logs, serving

PORT_TAKEN = 3


def main(programs: app.Programs | None = None) -> int:
    """Run until a signal; the exit code. programs: stand-ins for the model server, for tests."""
    try:
        settings = read_settings(os.environ)
        logs.configure(settings.log_level, settings.log_format)
        with asyncio.Runner() as runner:
            runner.run(app.run(settings, programs or app.Programs(), os.environ))
            return serving.leave()
    except serving.PortTaken as error:
        return _refuse(str(error), PORT_TAKEN)
    except ControllerError as error:
        return _refuse(str(error), error.exit_code)
    except asyncio.CancelledError:
        return 0


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from the environment. Raises BadSettings, also for a variable under our prefix that is none."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    given = [name.upper() for name in environ if name.upper().startswith(PREFIX)]
    unknown = sorted(name for name in given if name.split("__")[0] not in known)
    if unknown:
        raise BadSettings(f"unknown settings: {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    try:
        return Settings()
    except ValidationError as error:
        faults = [f"{PREFIX}{'__'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
        raise BadSettings("; ".join(faults)) from None


def _refuse(message: str, code: int) -> int:
    print(f"kingmaker-controller: {message}", file=sys.stderr)  # noqa: T201 - one clear line, whatever the log format
    return code


if __name__ == "__main__":
    sys.exit(main())
