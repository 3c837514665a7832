"""A real kubectl against a real small API server that has the product's CRD."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.fake_apiserver import FakeApiserver, load_yaml

ROOT = Path(__file__).parents[2]
CRD = ROOT / "deploy/k8s/crd"


class Kubectl:
    """Calls give what kubectl said: (exit code, standard output, standard error)."""

    def __init__(self, binary: Path, config: Path) -> None:
        self.binary = binary
        # kubectl keeps what it discovered in HOME: each server its own
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(config.parent), "KUBECONFIG": str(config)}

    def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [self.binary, *arguments],
            input=stdin,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def says(self, *arguments: str, stdin: str = "", **environment: str) -> str:
        """Standard output of a call that must succeed."""
        code, out, error = self(*arguments, stdin=stdin, **environment)
        assert code == 0, error
        return out

    def refuses(self, *arguments: str, stdin: str = "") -> str:
        """Standard error of a call that must fail."""
        code, out, error = self(*arguments, stdin=stdin)
        assert code != 0, out
        return error


@pytest.fixture(scope="session")
def kubectl_binary() -> Path:
    found = subprocess.run([ROOT / "scripts/kubectl"], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


@pytest.fixture
def server() -> Iterator[FakeApiserver]:
    with FakeApiserver(load_yaml(CRD)) as running:
        yield running


@pytest.fixture
def kubectl(server: FakeApiserver, kubectl_binary: Path, tmp_path: Path) -> Kubectl:
    return Kubectl(kubectl_binary, server.kubeconfig(tmp_path / "kubeconfig"))
