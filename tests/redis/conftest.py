"""The forms of Redis, each started once for all tests of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.authority import Authority
from tests.redis.servers import Cluster, Watched


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Free to be failed over."""
    built = Watched(tmp_path / "watched")
    yield built
    built.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Shared by a file's tests: the fail-over comes last in it."""
    built = Cluster(tmp_path_factory.mktemp("cluster"), replicated="km:{default/flights}:routing")
    yield built
    built.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))
