"""A small real Kubernetes API server, over HTTP on loopback.

In a test:     with FakeApiserver(crds=[...]) as server: client = server.client()
As a process:  python -m tests.fakes.fake_apiserver --port 8001 --crd deploy/k8s/crd/servedmodels.kingmaker.dev.yaml

It has one thread a connection, as watches live long and are few.
"""

import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.fakes.fake_apiserver.cluster import Cluster
from tests.fakes.fake_apiserver.faults import Faults
from tests.fakes.fake_apiserver.garbage import GarbageCollector
from tests.fakes.fake_apiserver.http import Handler
from tests.fakes.fake_apiserver.store import Object


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class FakeApiserver:
    """The cluster, its switches, and the socket it answers on. `stop` and `start` keep the state and the port."""

    def __init__(
        self, crds: list[Object] | None = None, *, port: int = 0, namespaces: tuple[str, ...] = ("default",)
    ) -> None:
        self.cluster = Cluster(crds, namespaces)
        self.faults = Faults()
        self.port = port
        self._garbage = GarbageCollector(self.cluster)
        self._listener: _Listener | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        handler = type(
            "BoundHandler", (Handler,), {"cluster": self.cluster, "faults": self.faults, "stopped": threading.Event()}
        )
        self._listener = _Listener(("127.0.0.1", self.port), handler)
        self.port = self._listener.server_address[1]
        threading.Thread(target=self._listener.serve_forever, args=(0.05,), name="fake-apiserver", daemon=True).start()
        self._garbage.start()

    def stop(self) -> None:
        """Stop answering: connections close, watches end. What is stored stays."""
        if self._listener is None:
            return
        self._listener.RequestHandlerClass.stopped.set()  # type: ignore[attr-defined]
        self.faults.drop_watches()
        self._listener.shutdown()
        self._listener.server_close()
        self._listener = None
        self._garbage.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: TracebackType | BaseException | type[BaseException] | None) -> None:
        self.stop()

    def kubeconfig(self, path: Path, namespace: str = "default") -> Path:
        """Write a kubeconfig that leads here; gives the path."""
        context = {"cluster": "fake", "user": "fake", "namespace": namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": {"token": "fake"}}],
            "contexts": [{"name": "fake", "context": context}],
        }
        path.write_text(yaml.safe_dump(config))
        return path


def load_yaml(path: Path) -> list[Object]:
    """Every document of a YAML file, or of the YAML files of a folder."""
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    return [document for file in files for document in yaml.safe_load_all(file.read_text()) if document]
