"""`python -m kingmaker_model_server [serve]`: serve one model version. `serve` is what SageMaker adds.

Exit codes: 0 after a signal and a drain, 1 for a fault of ours, 2 for settings or an address that cannot
be used, 3 for a model that cannot be used. Each comes with one log line that says why.
"""

import logging
import os
import socket
import sys

import uvloop

from kingmaker_model_server import app
from kingmaker_model_server.errors import BadModel
from kingmaker_model_server.settings import BadSettings, Settings, read
from kingmaker_servicekit import logs, metrics_endpoint, serving

logger = logging.getLogger("kingmaker_model_server")

BAD_START = 2
BAD_MODEL = 3


def main() -> int:
    """Serve until a signal; returns the exit code."""
    try:
        settings = read(os.environ, sys.argv[1:])
    except BadSettings as fault:
        logs.configure()
        logger.error("bad settings", extra={"reason": str(fault)})
        return BAD_START
    logs.configure(settings.log_level, settings.log_format)
    try:
        sock = serving.bind(settings.host, settings.port)
    except OSError as fault:
        logger.error("cannot listen", extra={"reason": fault.strerror or str(fault)})
        return BAD_START
    return _serve(settings, sock)


def _serve(settings: Settings, sock: socket.socket) -> int:
    service = app.build(settings, metrics_endpoint.new_registry())
    listener = serving.Listener("http", service.app, sock, http=service.http, lifespan=True)
    uvloop.run(serving.serve([listener], drain_s=settings.drain_seconds))
    code = _told(service.failure)
    if service.loading:
        logging.shutdown()
        os._exit(code)  # finalizing Python under ONNX Runtime's feet would crash
    return code


def _told(failure: Exception | None) -> int:
    """Log why the service ended; returns the exit code."""
    if failure is None:
        logger.info("stopped")
        return 0
    if isinstance(failure, BadModel):
        logger.error("bad model", extra={"reason": str(failure)})
        return BAD_MODEL
    logger.error("load failed", exc_info=failure)
    return 1


if __name__ == "__main__":
    sys.exit(main())
