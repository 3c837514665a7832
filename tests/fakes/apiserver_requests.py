"""A way to talk to the fake apiserver without any client's manners: requests as they stand in the API reference."""

from typing import Any

import httpx

from tests.fakes.fake_apiserver import FakeApiserver

SM = "/apis/kingmaker.dev/v1alpha1/namespaces/default/servedmodels"
APPLY, MERGE, JSON = "application/apply-patch+yaml", "application/merge-patch+json", "application/json-patch+json"


class Api:
    """Answers are (code, body)."""

    def __init__(self, server: FakeApiserver) -> None:
        self.server = server
        self.http = httpx.Client(base_url=server.url, timeout=10, headers={"User-Agent": "tests/1"})

    def __call__(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", **query: Any
    ) -> tuple[int, Any]:
        answer = self.http.request(method, path, json=body, params=query, headers={"Content-Type": kind})
        return answer.status_code, answer.json()

    def done(self, method: str, path: str, body: Any = None, kind: str = "application/json", **query: Any) -> Any:
        """As a call, for requests that must succeed."""
        code, answer = self(method, path, body, kind, **query)
        assert code < 300, answer
        return answer

    def apply(self, path: str, body: Any, manager: str, *, force: bool = False) -> tuple[int, Any]:
        return self("PATCH", path, body, APPLY, fieldManager=manager, force=str(force).lower())

    def model(self, name: str = "flights", **spec: Any) -> Any:
        """Create a ServedModel; gives it as stored."""
        return self.done("POST", SM, served_model(name, **spec))


def served_model(name: str = "flights", **spec: Any) -> dict[str, Any]:
    champion = {"name": "lr", "model": "models:/flights/1"}
    meta = {"name": name}
    return {
        "apiVersion": "kingmaker.dev/v1alpha1",
        "kind": "ServedModel",
        "metadata": meta,
        "spec": {"champion": champion, **spec},
    }
