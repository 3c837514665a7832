"""A model server that loads nothing: ready at once or, when its model says "slow", soon; or dies when it says so.

The second line of a model, if it has one, is its metadata."""

import http.server
import os
import signal
import sys
import time
from pathlib import Path

PREFIX = "KINGMAKER_MODEL_SERVER_"


def main() -> None:
    folder = Path(os.environ[PREFIX + "MODEL_DIR"])
    text = (folder / "model.onnx").read_text()
    if "dies" in text:
        sys.stdout.write("the model is damaged\n")
        sys.stdout.flush()
        sys.exit(1)
    ready_at = time.monotonic() + (0.6 if "slow" in text else 0.0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in text else lambda *_: sys.exit(0))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            gate = folder.parent.parent.parent / "hold-readiness"
            is_ready = time.monotonic() >= ready_at and not (gate.exists() and gate.read_text() in text)
            self.send_response(200 if is_ready else 503)
            self.end_headers()
            if self.path.startswith("/v2/models/"):
                self.wfile.write("".join(text.splitlines()[1:]).encode())

        def log_message(self, *_: object) -> None:
            pass

    http.server.HTTPServer(("127.0.0.1", int(os.environ[PREFIX + "PORT"])), Handler).serve_forever(0.05)


main()
