"""`make e2e KUBECONFIG=...` without a cluster: its provider on the fake API server, with all its pods as processes.

What a kubeconfig, kubectl, the CRD, rights, manifests, Redis, MLflow and the fetch step are worth is seen here. What is
not: images, a kubelet, a network, and `kubectl port-forward`.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.cluster.objects import Images
from tests.cluster.pods import Pods
from tests.cluster.real_cluster import Target, for_namespace, real_cluster
from tests.cluster.stage import Stage
from tests.fakes.fake_apiserver import FakeApiserver
from tests.fakes.fake_apiserver.kubelet import Kubelet

pytestmark = pytest.mark.fake_only("it is about this suite")
IMAGES = Images("registry.example/team", "1.2", "valkey", "mlflow")
ROOT = Path(__file__).parents[2]
NO_STAND_IN = SimpleNamespace(fetch_command=())


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Any]:
    """A cluster that knows nothing of Kingmaker yet, and runs pods."""
    with FakeApiserver() as server, Kubelet(server.cluster, Pods(tmp_path / "pods", NO_STAND_IN, server)):
        made = Target(server.kubeconfig(tmp_path / "of-the-cluster"), IMAGES, reach="pods")
        yield SimpleNamespace(target=made, server=server, folder=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_scenario_runs_in_a_namespace_of_its_own_and_leaves_none_behind(target: Any) -> None:
    store = target.server.cluster.store
    with real_cluster(target.target, target.folder) as cluster:
        stage = Stage(target.folder, cluster)
        assert stage.namespace.startswith("kingmaker-e2e-")
        stage.leader = stage.controller()
        stage.start_gateway()
        assert stage.create({"champion": {"name": "lr", "model": "models:/flights@champion"}}).status_code == 201
        stage.until(lambda: stage.answered_by() == "lr", "the champion answers", 150)
        challenger = {"name": "gbm", "model": "models:/flights/2"}
        with stage.load() as load:
            stage.patch({"challengers": [challenger], "weights": {"gbm": 50}})
            stage.until(lambda: stage.record().ranges == "gbm:0-4999", "the challenger has its weight", 150)
            stage.until(lambda: set(load.answers[-50:]) == {"lr", "gbm"}, "both answer")
            second, epoch = stage.controller(), stage.record().epoch
            stage.leader.kill()
            stage.until(lambda: stage.record().epoch > epoch, "the second controller leads", 90)
        assert load.failures == []
        assert second.is_running()
        images = {c["image"] for p in store.all("pods", stage.namespace) for c in p["spec"]["containers"]}
        own = {f"registry.example/team/kingmaker-{name}:1.2" for name in ("controller", "gateway", "model-server")}
        assert images == own | {"valkey", "mlflow"}
        second.terminate()
        assert second.ended(60) in (0, None)
        stage.close()
        cluster.clear()
        assert {item["metadata"]["name"] for item in store.all("pods")} == {"redis", "mlflow"}
        for kind in ("servedmodels.kingmaker.dev", "deployments.apps", "leases.coordination.k8s.io", "events"):
            assert store.all(kind) == [], "the next scenario begins with nothing"
        assert cluster.redis.keys() == []
    assert [item["metadata"]["name"] for item in store.all("namespaces")] == ["default"]
    stage.until(lambda: not store.all("pods"), "nothing of it is left", 60)


def test_a_namespace_is_removed_also_when_something_in_it_does_not_start(tmp_path: Path) -> None:
    with FakeApiserver() as server:  # and nobody who runs pods
        target = Target(server.kubeconfig(tmp_path / "of-the-cluster"), IMAGES, "pods", patience_s=1)
        with pytest.raises(AssertionError, match="timed out waiting"), real_cluster(target, tmp_path):
            pass
        store = server.cluster.store
        assert [item["metadata"]["name"] for item in store.all("namespaces")] == ["default"]
        crds = [crd["spec"]["names"]["kind"] for crd in store.all("customresourcedefinitions.apiextensions.k8s.io")]
        assert "ServedModel" in crds, "the CRD stays: removing it would remove every ServedModel of the cluster"


def test_a_kubeconfig_is_copied_with_its_paths_and_another_namespace(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    config = {
        "current-context": "b",
        "contexts": [
            {"name": "a", "context": {"cluster": "c", "user": "u", "namespace": "prod"}},
            {"name": "b", "context": {"cluster": "c", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://x", "certificate-authority": "ca.crt"}}],
        "users": [{"name": "u", "user": {"client-key": "/abs/key"}}],
    }
    source = tmp_path / "home" / "config"
    source.write_text(yaml.safe_dump(config))
    copy = for_namespace(source, "mine", tmp_path / "copy")
    told = yaml.safe_load(copy.read_text())
    assert [c["context"].get("namespace") for c in told["contexts"]] == ["prod", "mine"]
    assert told["clusters"][0]["cluster"]["certificate-authority"] == str(tmp_path / "home" / "ca.crt")
    assert told["users"][0]["user"]["client-key"] == "/abs/key"
    assert copy.stat().st_mode & 0o077 == 0, "it may hold a password"


def test_what_needs_a_fake_cluster_is_listed_as_not_run_on_a_real_one(tmp_path: Path) -> None:
    environment = {**os.environ, "KINGMAKER_E2E_KUBECONFIG": str(tmp_path / "nowhere")}
    files = ["test_copies_of_the_cluster_stay_true.py", "test_a_served_model_is_served_in_a_cluster.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "two_leaders or dropped"]
    command += [f"tests/cluster/{file}" for file in files]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    listed = done.stdout.partition("NOT RUN")[2]
    assert "watches break off, hang and are refused when the test says so" in listed
    assert "a process is frozen in the middle" in listed
    assert "test_of_two_leaders_at_once_the_older_one_changes_nothing" in listed
    assert "passed" not in done.stdout
