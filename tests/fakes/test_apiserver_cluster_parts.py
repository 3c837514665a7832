"""The pretended rest of a cluster: pods, rolling updates, endpoints; and the server as a process of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.apiserver_requests import MERGE, SM, Api
from tests.fakes.fake_apiserver.kubelet import Kubelet, Pretend
from tests.fakes.fake_apiserver.store import Object

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
PODS = "/api/v1/namespaces/default/pods"
SLICE = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/d-fake"


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


class Processes:
    """A runner whose pods do nothing but be counted; stopping takes until `released`."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopped: list[tuple[str, float]] = []
        self.released = threading.Event()
        self.ready = True

    def start(self, pod: Object) -> "_Process":
        self.started.append(pod["status"]["podIP"])
        return _Process(self, pod["status"]["podIP"])


class _Process:
    def __init__(self, runner: Processes, address: str) -> None:
        self._runner, self._address = runner, address

    def is_ready(self) -> bool:
        return self._runner.ready

    def trouble(self) -> tuple[str, str] | None:
        return None

    def stop(self, grace_s: float) -> None:
        self._runner.released.wait(30)
        self._runner.stopped.append((self._address, grace_s))


@pytest.fixture
def pretend(api: Api) -> Iterator[Pretend]:
    runner = Pretend()
    with Kubelet(api.server.cluster, runner):
        yield runner


def deploy(api: Api, image: str = "a:1", replicas: int = 1, **spec: Any) -> None:
    port = {"name": "http", "containerPort": 8080}
    containers = [{"name": "server", "image": image, "ports": [port]}]
    pod = {"containers": containers, "terminationGracePeriodSeconds": 7}
    template = {"metadata": {"labels": {"app": "d"}}, "spec": pod}
    body = {"selector": {"matchLabels": {"app": "d"}}, "replicas": replicas, "template": template, **spec}
    item = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": body}
    assert api.apply(f"{DEPLOYMENTS}/d", item, "kingmaker")[0] < 300
    service = {
        "selector": {"app": "d"},
        "clusterIP": "None",
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    }
    assert (
        api.apply(
            "/api/v1/namespaces/default/services/d",
            {"apiVersion": "v1", "kind": "Service", "spec": service},
            "kingmaker",
        )[0]
        < 300
    )


def ready(api: Api) -> int:
    status = api.done("GET", f"{DEPLOYMENTS}/d").get("status", {})
    return int(status.get("readyReplicas", 0))


def endpoints(api: Api) -> dict[str, tuple[bool, bool]]:
    """address: (ready, terminating)"""
    code, found = api("GET", SLICE)
    listed = found["endpoints"] if code == 200 else []
    return {e["addresses"][0]: (e["conditions"]["ready"], e["conditions"]["terminating"]) for e in listed}


def test_a_deployment_becomes_pods_with_addresses_and_endpoints(api: Api, pretend: Pretend) -> None:
    deploy(api, replicas=2)
    until(lambda: ready(api) == 2)
    found = until(lambda: endpoints(api))
    assert len(found) == 2
    assert set(found.values()) == {(True, False)}
    assert all(address.startswith("127.") for address in found)
    assert api.done("GET", SLICE)["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    status = api.done("GET", f"{DEPLOYMENTS}/d")["status"]
    assert status["observedGeneration"] == 1
    assert {c["type"]: c["status"] for c in status["conditions"]} == {"Available": "True", "Progressing": "True"}


def test_a_cluster_at_rest_writes_nothing(api: Api, pretend: Pretend) -> None:
    deploy(api)
    until(lambda: ready(api) == 1 and endpoints(api))
    until(lambda: is_quiet(api))


def is_quiet(api: Api) -> bool:
    before = api.server.cluster.store.revision
    time.sleep(0.3)
    return api.server.cluster.store.revision == before


def test_pods_that_wait_say_why_and_get_no_endpoints(api: Api, pretend: Pretend) -> None:
    pretend.waits = ("ImagePullBackOff", 'Back-off pulling image "a:1"')
    deploy(api)
    [pod] = until(lambda: [p for p in api.done("GET", PODS)["items"] if p.get("status", {}).get("containerStatuses")])
    assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"
    assert ready(api) == 0
    assert not any(is_ready for is_ready, _ in endpoints(api).values())
    pretend.waits = None
    until(lambda: ready(api) == 1)


def test_a_new_template_takes_over_without_a_gap(api: Api, pretend: Pretend) -> None:
    deploy(api, replicas=2)
    old = set(until(lambda: list((found := endpoints(api)).values()) == [(True, False)] * 2 and found))
    lowest: list[int] = []
    deploy(api, image="a:2", replicas=2)

    def is_done() -> bool:
        found = endpoints(api)
        lowest.append(sum(is_ready for is_ready, _ in found.values()))
        return len(found) == 2 and not old & set(found)

    until(is_done)
    assert min(lowest) >= 2, "25 % of 2 pods may be missing: none"
    until(lambda: len(api.done("GET", PODS)["items"]) == 2)


def test_a_new_template_that_is_never_ready_leaves_the_old_pods_alone(api: Api) -> None:
    runner = Processes()
    runner.released.set()
    with Kubelet(api.server.cluster, runner):
        deploy(api)
        [old] = until(lambda: ready(api) == 1 and endpoints(api))
        sick = Processes()
        runner.start = lambda pod: _Process(sick, pod["status"]["podIP"])  # type: ignore[method-assign]
        sick.ready = False
        sick.released.set()
        deploy(api, image="a:2")
        until(lambda: len(endpoints(api)) == 2)
        until(lambda: is_quiet(api))
        assert endpoints(api)[old] == (True, False)


def test_a_pod_leaves_the_endpoints_before_its_process_is_over(api: Api) -> None:
    runner = Processes()
    with Kubelet(api.server.cluster, runner):
        deploy(api)
        [address] = until(lambda: ready(api) == 1 and endpoints(api))
        api.done("DELETE", f"{DEPLOYMENTS}/d")
        until(lambda: endpoints(api).get(address) == (False, True))
        assert runner.stopped == []
        runner.released.set()
        until(lambda: not api.done("GET", PODS)["items"])
        assert runner.stopped == [(address, 7.0)], "with the grace period of the manifest"


def test_fewer_replicas_are_fewer_pods(api: Api, pretend: Pretend) -> None:
    deploy(api, replicas=3)
    until(lambda: ready(api) == 3)
    api.done("PATCH", f"{DEPLOYMENTS}/d", {"spec": {"replicas": 1}}, MERGE)
    until(lambda: len(endpoints(api)) == 1)
    api.done("PATCH", f"{DEPLOYMENTS}/d", {"spec": {"replicas": 0}}, MERGE)
    until(lambda: not endpoints(api))


def test_the_server_runs_as_a_process_with_its_switches_over_http(tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    command = [
        sys.executable,
        "-m",
        "tests.fakes.fake_apiserver",
        "--crd",
        "deploy/k8s/crd",
        "--kubeconfig",
        str(config),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert f"server: {url}\n" in config.read_text()
        with httpx.Client(base_url=url) as client:
            assert client.get(SM).json()["items"] == []
            assert client.post("/fake/trouble?verb=GET&path=servedmodels&code=503").status_code == 200
            assert client.get(SM).status_code == 503
            assert [r["code"] for r in client.get("/fake/requests").json()["requests"]] == [200, 503]
            assert client.post("/fake/nothing").status_code == 404
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_pod_of_its_own_gets_a_node_and_runs(api: Api, pretend: Pretend) -> None:
    pod = {"metadata": {"name": "alone"}, "spec": {"containers": [{"name": "c", "image": "a:1"}]}}
    assert "nodeName" not in api.done("POST", PODS, pod)["spec"]
    ran = until(lambda: (found := api.done("GET", f"{PODS}/alone")).get("status", {}).get("phase") and found)
    assert ran["spec"]["nodeName"] == "fake-node"
    until(lambda: api.done("GET", f"{PODS}/alone")["status"]["phase"] == "Running")


def test_a_namespace_takes_all_that_is_in_it_along(api: Api) -> None:
    runner = Processes()
    runner.released.set()
    with Kubelet(api.server.cluster, runner):
        api.done("POST", "/api/v1/namespaces", {"metadata": {"name": "short-lived"}})
        inside = DEPLOYMENTS.replace("default", "short-lived")
        deploy(api)
        item = api.done("GET", f"{DEPLOYMENTS}/d")
        api.done("POST", inside, {"metadata": {"name": "d"}, "spec": item["spec"]})
        until(lambda: len(runner.started) == 2)
        api.done("DELETE", "/api/v1/namespaces/short-lived")
        store = api.server.cluster.store
        until(
            lambda: not [item for _, item in store.everything() if item["metadata"].get("namespace") == "short-lived"]
        )
        assert len(runner.stopped) == 1
        assert api("POST", inside, {"metadata": {"name": "d"}, "spec": item["spec"]})[0] == 404
    assert [pod["metadata"]["namespace"] for pod in store.all("pods")] == ["default"]


def test_roles_and_quotas_are_known(api: Api) -> None:
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles"
    assert api.done("POST", roles, {"metadata": {"name": "r"}, "rules": [rule]})["rules"] == [rule]
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "3"}}}
    assert api.done("POST", "/api/v1/namespaces/default/resourcequotas", quota)["spec"] == quota["spec"]
