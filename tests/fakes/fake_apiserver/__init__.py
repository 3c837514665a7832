"""A Kubernetes API server in one process, for tests: see `server`."""

from tests.fakes.fake_apiserver.server import FakeApiserver, load_yaml

__all__ = ["FakeApiserver", "load_yaml"]
