"""A fake apiserver with the product's CRD for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.apiserver_requests import Api
from tests.fakes.fake_apiserver import FakeApiserver, load_yaml

CRD = Path(__file__).parents[2] / "deploy/k8s/crd"


@pytest.fixture
def server() -> Iterator[FakeApiserver]:
    with FakeApiserver(load_yaml(CRD), namespaces=("default", "other")) as running:
        yield running


@pytest.fixture
def api(server: FakeApiserver) -> Iterator[Api]:
    found = Api(server)
    yield found
    found.http.close()
