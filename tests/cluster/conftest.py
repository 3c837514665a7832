"""Which cluster the scenarios run on: a fake one of each test's own, or the one KINGMAKER_E2E_KUBECONFIG names."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.cluster.fake_cluster import fake_cluster
from tests.cluster.real_cluster import Target, real_cluster
from tests.cluster.stage import Stage

HERE = Path(__file__).parent


class NewStage(Protocol):
    """A context manager that gives a `Stage`: an empty namespace with a cluster around it, controllers and gateway not
    started. runner: of pods, and registry, one that runs already: for the fake cluster; a real one has its own."""

    def __call__(
        self, folder: Path, runner: Any = None, registry: Any = None
    ) -> contextlib.AbstractContextManager[Stage]: ...


@contextlib.contextmanager
def on_a_fake_cluster(folder: Path, runner: Any = None, registry: Any = None) -> Iterator[Stage]:
    with fake_cluster(folder, runner, registry) as cluster:
        stage = Stage(folder, cluster)
        try:
            yield stage
        finally:
            stage.close()


@pytest.fixture(scope="session")
def new_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewStage]:
    """On a real cluster all scenarios share one namespace, for MLflow takes a minute to start, and leave it empty."""
    target = Target.from_environment()
    if target is None:
        yield on_a_fake_cluster
        return
    with real_cluster(target, tmp_path_factory.mktemp("cluster")) as cluster:

        @contextlib.contextmanager
        def on_the_real_one(folder: Path, runner: Any = None, registry: Any = None) -> Iterator[Stage]:
            stage = Stage(folder, cluster)
            try:
                yield stage
            finally:
                stage.close()
                cluster.clear()

        yield on_the_real_one


@pytest.fixture
def stage(tmp_path: Path, new_stage: NewStage) -> Iterator[Stage]:
    """A stage of the test's own."""
    with new_stage(tmp_path) as built:
        yield built


@pytest.fixture(scope="module")
def one_stage(tmp_path_factory: pytest.TempPathFactory, new_stage: NewStage) -> Iterator[Stage]:
    """A stage for all tests of a file."""
    with new_stage(tmp_path_factory.mktemp("stage")) as built:
        yield built


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a real cluster, what only a fake one can do is not run, and listed at the end with the reason."""
    if not os.environ.get("KINGMAKER_E2E_KUBECONFIG"):
        return
    for item in items:
        marker = item.get_closest_marker("fake_only")
        if marker is not None and HERE in item.path.parents:
            why = f"NOT RUN: {marker.args[0]}, which takes the fake cluster; to run it: make test ARGS=tests/cluster"
            item.add_marker(pytest.mark.skip(reason=why))
