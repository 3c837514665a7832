"""`python -m kingmaker_gateway`: read the settings, take the ports, serve until SIGTERM."""

import asyncio
import logging
import os
import sys

from pydantic import ValidationError

from kingmaker_gateway import app
from kingmaker_gateway.event_loop import EventLoop
from kingmaker_gateway.settings import PREFIX, Settings, unknown_variables
from kingmaker_servicekit import logs, metrics_endpoint, serving

logger = logging.getLogger(__name__)

BAD_START = 2
"""Exit code when settings are wrong or a port is taken."""


def main() -> int:
    try:
        settings = _settings()
        logs.configure(settings.log_level, settings.log_format)
        sockets = [serving.bind(settings.host, port) for port in (settings.port, settings.admin_port)]
    except (ValueError, OSError) as error:
        sys.stderr.write(f"kingmaker-gateway: {error.strerror if isinstance(error, OSError) else error}\n")
        return BAD_START

    async def run() -> None:
        gateway = app.build(settings, metrics_endpoint.new_registry())
        public = serving.Listener(
            "public", gateway.public, sockets[0], http=gateway.http, lifespan=True, tls=settings.tls.files
        )
        admin = serving.Listener("admin", gateway.admin, sockets[1])
        await serving.serve([public, admin], settings.drain_seconds)

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(run())
        logger.info("stopped")
        return serving.leave()


def _settings() -> Settings:
    """Raises ValueError whose text names each wrong variable."""
    unknown = unknown_variables(os.environ)
    if unknown:
        raise ValueError(f"no such setting: {', '.join(unknown)}")
    try:
        return Settings()
    except ValidationError as error:
        faults = (f"{PREFIX}{'__'.join(str(part).upper() for part in e['loc'])}: {e['msg']}" for e in error.errors())
        raise ValueError("; ".join(faults)) from None


if __name__ == "__main__":
    sys.exit(main())
