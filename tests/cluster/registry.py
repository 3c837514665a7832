"""An MLflow tracking server as far as the controller asks it, and versions as files for the stand-in fetch step."""

import hashlib
import http.server
import json
import sys
import threading
import urllib.parse
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper


def tiny_model(constant: float, kind: int = TensorProto.FLOAT) -> bytes:
    """y = x + constant, for x of shape (rows, 2). kind: of numbers."""
    x = helper.make_tensor_value_info("x", kind, [None, 2])
    y = helper.make_tensor_value_info("y", kind, [None, 2])
    shift = helper.make_tensor("shift", kind, [1], [constant])
    graph = helper.make_graph([helper.make_node("Add", ["x", "shift"], ["y"])], "tiny", [x], [y], [shift])
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


class StandInRegistry:
    """The `Registry` of most scenarios: asking the real one costs seconds a pod. `with` it.

    Its fetch step differs from the real one in where it takes the model from, and in nothing else."""

    def __init__(self, folder: Path, versions: int = 4) -> None:
        self.folder = folder
        self.aliases: dict[str, str] = {"champion": "1"}
        self.tags: dict[str, str] = {}
        self.is_up = True
        stand_in = str(Path(__file__).with_name("stand_in_fetch.py"))
        self.fetch_command = ["env", f"STAND_IN_REGISTRY={folder}", sys.executable, stand_in]
        folder.mkdir(parents=True)
        for version in range(1, versions + 1):
            self.add(str(version), tiny_model(float(version)))
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(url.query))
                status, body = registry.answer(url.path.rpartition("/mlflow/")[2], query)
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, what: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        missing = 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such thing"}
        if not self.is_up:
            return 503, {"message": "down"}
        if query.get("name") != "flights":
            return missing
        if what == "registered-models/get":
            named = [{"alias": alias, "version": version} for alias, version in self.aliases.items()]
            return 200, {"registered_model": {"name": "flights", "aliases": named}}
        version = self.aliases.get(query.get("alias", ""), query.get("version", ""))
        if version not in self.tags:
            return missing
        tags = [{"key": "kingmaker.onnx_sha256", "value": self.tags[version]}] if self.tags[version] else []
        return 200, {"model_version": {"name": "flights", "version": version, "tags": tags}}

    def add(self, version: str, raw: bytes) -> None:
        (self.folder / f"{version}.onnx").write_bytes(raw)
        self.tags[version] = hashlib.sha256(raw).hexdigest()

    def mistag(self, version: str) -> None:
        self._tag(version, "0" * 64)

    def retag(self, version: str) -> None:
        self._tag(version, hashlib.sha256((self.folder / f"{version}.onnx").read_bytes()).hexdigest())

    def _tag(self, version: str, sha256: str) -> None:
        """As the controller is told it, and as the fetch step is."""
        self.tags[version] = sha256
        (self.folder / f"{version}.sha256").write_text(sha256)

    def go_away(self) -> None:
        self.is_up = False

    def come_back(self) -> None:
        self.is_up = True

    def __enter__(self) -> "StandInRegistry":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
