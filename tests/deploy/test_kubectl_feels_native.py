"""What an operator does with kubectl, done with a real kubectl."""

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import CRD, Kubectl
from tests.fakes.fake_apiserver import FakeApiserver
from tests.fakes.fake_apiserver.cluster import Write
from tests.fakes.fake_apiserver.kubelet import Kubelet

FLIGHTS = """
apiVersion: kingmaker.dev/v1alpha1
kind: ServedModel
metadata: {name: flights}
spec:
  champion: {name: lr, model: models:/flights/1}
  challengers:
  - {name: gbm, model: models:/flights/2}
  weights: {gbm: 5}
"""
AT = "2026-11-21T05:00:00Z"


def report(server: FakeApiserver, **status: Any) -> None:
    """Write status as the controller does: by server-side apply with the full list."""
    kind = server.cluster.kind("kingmaker.dev", "v1alpha1", "servedmodels")
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "flights"}, "status": status}
    write = Write("kingmaker-controller", "status", force=True)
    server.cluster.patch(kind, "default", "flights", "application/apply-patch+yaml", body, write)


def condition(type_: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    about = {"reason": reason, "message": message, "lastTransitionTime": AT, "observedGeneration": 1}
    return {"type": type_, "status": status, **about}


RUNNING: dict[str, Any] = {
    "observedGeneration": 1,
    "phase": "Progressing",
    "message": "gbm serves 5 % beside champion lr",
    "champion": {"name": "lr", "version": "1", "since": AT, "rolloutID": "flights-1"},
    "summary": {"weights": "lr=95,gbm=5", "step": ""},
    "routing": {"revision": 7, "epoch": 1, "championWeight": 95, "ranges": "gbm:0-499", "variants": []},
    "conditions": [condition("Ready", "True", "ChampionServes"), condition("Programmed", "True", "GatewaysAgree")],
}


@pytest.fixture
def flights(kubectl: Kubectl) -> Kubectl:
    assert kubectl.says("apply", "-f", "-", stdin=FLIGHTS) == "servedmodel.kingmaker.dev/flights created\n"
    return kubectl


def test_get_answers_who_is_champion_at_what_weight_in_which_phase(flights: Kubectl, server: FakeApiserver) -> None:
    report(server, **RUNNING)
    for words in (
        ("get", "sm"),
        ("get", "servedmodels"),
        ("get", "servedmodel.kingmaker.dev/flights"),
        ("get", "kingmaker"),
    ):
        head, row = flights.says(*words).splitlines()
        assert head.split() == ["NAME", "MODE", "PHASE", "CHAMPION", "WEIGHTS", "READY", "AGE"]
        assert row.split()[:6] == ["flights", "Canary", "Progressing", "lr", "lr=95,gbm=5", "True"]
        assert len(row.split()) == len(head.split()), "a column is empty"


def test_wide_says_why(flights: Kubectl, server: FakeApiserver) -> None:
    report(server, **RUNNING)
    head, row = flights.says("get", "sm", "-o", "wide").splitlines()
    assert head.split()[7:] == ["MESSAGE", "PROGRAMMED", "REVISION", "PAUSED"]
    assert row.endswith("gbm serves 5 % beside champion lr   True         7          false")


def test_a_patch_changes_one_weight_and_nothing_else(flights: Kubectl) -> None:
    before = json.loads(flights.says("get", "sm", "flights", "-o", "json"))["spec"]
    flights.says("patch", "sm", "flights", "--type", "merge", "-p", '{"spec":{"weights":{"gbm":20}}}')
    after = json.loads(flights.says("get", "sm", "flights", "-o", "json"))["spec"]
    assert after == {**before, "weights": {"gbm": 20}}


def test_describe_shows_conditions_and_events(flights: Kubectl, server: FakeApiserver) -> None:
    report(server, **RUNNING)
    meta = json.loads(flights.says("get", "sm", "flights", "-o", "json"))["metadata"]
    about = {"apiVersion": "kingmaker.dev/v1alpha1", "kind": "ServedModel", "name": "flights", "namespace": "default"}
    event = {"metadata": {"name": "flights.1"}, "regarding": {**about, "uid": meta["uid"]}, "reason": "WeightChanged",
             "note": "gbm: 0 % -> 5 %", "type": "Normal", "action": "Route", "eventTime": "2026-11-21T05:00:00.000000Z",
             "reportingController": "kingmaker.dev/controller", "reportingInstance": "controller-0"}  # fmt: skip
    server.cluster.create(server.cluster.kind("events.k8s.io", "v1", "events"), "default", event, Write("controller"))
    text = flights.says("describe", "sm", "flights")
    assert "ChampionServes" in text
    events = text.partition("Events:")[2]
    assert "WeightChanged" in events
    assert "gbm: 0 % -> 5 %" in events
    assert "WeightChanged" in flights.says("get", "events")


def test_wait_returns_when_the_condition_comes(flights: Kubectl, server: FakeApiserver) -> None:
    late = {**RUNNING, "conditions": [condition("Programmed", "False", "GatewaysBehind")]}
    report(server, **late)
    assert "timed out" in flights.refuses("wait", "--for=condition=Programmed", "--timeout=1s", "sm/flights")
    timer = threading.Timer(0.5, lambda: report(server, **RUNNING))
    timer.start()
    said = flights.says("wait", "--for=condition=Programmed", "--timeout=20s", "sm/flights")
    assert said == "servedmodel.kingmaker.dev/flights condition met\n"


def test_wait_after_a_patch_does_not_take_the_old_answer_for_the_new_one(
    flights: Kubectl, server: FakeApiserver
) -> None:
    report(server, **RUNNING)
    flights.says("patch", "sm", "flights", "--type", "merge", "-p", '{"spec":{"weights":{"gbm":20}}}')
    words = ("wait", "--for=condition=Programmed", "sm/flights")
    assert "timed out" in flights.refuses(*words, "--timeout=1s"), "True was found for generation 1"
    conditions = [{**one, "observedGeneration": 2} for one in RUNNING["conditions"]]
    report(server, **{**RUNNING, "observedGeneration": 2, "conditions": conditions})
    flights.says(*words, "--timeout=20s")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("sm", "challengers that may win its place"),
        ("sm.spec.rollout", "strategy"),
        ("sm.spec.weights", "The champion gets what is left"),
        ("sm.spec.champion.model", "models:/NAME/VERSION"),
        ("sm.spec.challengers.mirrorPercent", "never reach the client"),
        ("sm.status.conditions.reason", "one word for machines"),
    ],
)
def test_explain_is_a_manual(kubectl: Kubectl, path: str, text: str) -> None:
    assert text in " ".join(kubectl.says("explain", path).split())


def test_nothing_is_without_description(kubectl: Kubectl) -> None:
    text = kubectl.says("explain", "sm", "--recursive") + kubectl.says("explain", "sm.spec")
    assert "weights" in text
    for path in (
        "sm.spec",
        "sm.spec.rollout",
        "sm.spec.limits",
        "sm.status",
        "sm.status.variants",
        "sm.status.routing",
    ):
        assert "<no description>" not in kubectl.says("explain", path), path


def test_an_edit_in_an_editor_is_kept(flights: Kubectl) -> None:
    said = flights.says("edit", "sm", "flights", KUBE_EDITOR="sed -i 's/gbm: 5/gbm: 25/'")
    assert "edited" in said
    assert flights.says("get", "sm", "flights", "-o", "jsonpath={.spec.weights.gbm}") == "25"


def test_apply_again_is_unchanged_and_apply_of_less_removes(flights: Kubectl) -> None:
    flights.says("patch", "sm", "flights", "--type", "merge", "-p", '{"spec":{"overrides":"Allowed"}}')
    less = FLIGHTS.partition("  challengers")[0]
    assert "configured" in flights.says("apply", "-f", "-", stdin=less)
    spec = json.loads(flights.says("get", "sm", "flights", "-o", "json"))["spec"]
    assert "challengers" not in spec
    assert "weights" not in spec
    assert spec["overrides"] == "Allowed"


def test_server_side_apply_of_one_weight_names_the_other_owner(flights: Kubectl) -> None:
    flights.says("patch", "sm", "flights", "--type", "merge", "-p", '{"spec":{"weights":{"gbm":30}}}')
    body = FLIGHTS.partition("spec:")[0] + "spec: {weights: {gbm: 44}}\n"
    words = ("apply", "--server-side", "--field-manager=ops", "-f", "-")
    error = flights.refuses(*words, stdin=body)
    assert 'conflict with "kubectl-patch" using kingmaker.dev/v1alpha1: .spec.weights.gbm' in error
    assert "serverside-applied" in flights.says(*words, "--force-conflicts", stdin=body)
    assert flights.says("get", "sm", "flights", "-o", "jsonpath={.spec.weights.gbm}") == "44"


def test_a_misspelt_field_is_refused_by_apply_and_warned_of_by_patch(flights: Kubectl) -> None:
    error = flights.refuses("apply", "-f", "-", stdin=FLIGHTS.replace("weights", "wieghts"))
    assert 'strict decoding error: unknown field "spec.wieghts"' in error
    code, _, warning = flights("patch", "sm", "flights", "--type", "merge", "-p", '{"spec":{"wieghts":{"gbm":1}}}')
    assert (code, warning) == (0, 'Warning: unknown field "spec.wieghts"\n')


def test_get_watch_shows_rows_as_they_change(flights: Kubectl, server: FakeApiserver) -> None:
    command: list[str | Path] = [flights.binary, "get", "sm", "--watch", "--no-headers"]
    with subprocess.Popen(command, env=flights.environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("flights")
        report(server, **RUNNING)
        assert "gbm=5" in process.stdout.readline()
        process.terminate()


def test_delete_waits_until_it_is_gone(flights: Kubectl, server: FakeApiserver) -> None:
    patch = '{"metadata":{"finalizers":["kingmaker.dev/drain"]}}'
    flights.says("patch", "sm", "flights", "--type", "merge", "-p", patch)
    command: list[str | Path] = [flights.binary, "delete", "sm", "flights"]
    with subprocess.Popen(command, env=flights.environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while "deletionTimestamp" not in flights.says("get", "sm", "flights", "-o", "json"):
            assert time.monotonic() < deadline
        assert process.poll() is None, "it waits"
        flights.says(
            "patch", "sm", "flights", "--type", "json", "-p", '[{"op":"remove","path":"/metadata/finalizers"}]'
        )
        assert process.wait(20) == 0
    assert "not found" in flights.refuses("get", "sm", "flights")


def test_the_crd_itself_is_applied_and_then_served(kubectl_binary: Any, tmp_path: Any) -> None:
    with FakeApiserver() as bare:
        kubectl = Kubectl(kubectl_binary, bare.kubeconfig(tmp_path / "kubeconfig"))
        assert "serverside-applied" in kubectl.says("apply", "--server-side", "-f", str(CRD))
        kubectl.says("wait", "--for=condition=Established", "--timeout=10s", "crd/servedmodels.kingmaker.dev")
        rows = kubectl.says("api-resources", "--categories=kingmaker", "--no-headers").split()
        assert rows == ["servedmodels", "sm", "kingmaker.dev/v1alpha1", "true", "ServedModel"]


def test_deployments_roll_out_where_pods_become_ready(kubectl: Kubectl, server: FakeApiserver) -> None:
    container = {"name": "server", "image": "a:1", "ports": [{"name": "http", "containerPort": 8080}]}
    template = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [container]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "d"}}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
    with Kubelet(server.cluster):
        kubectl.says("apply", "-f", "-", stdin=json.dumps(body))
        assert "successfully rolled out" in kubectl.says("rollout", "status", "deploy/d", "--timeout=20s")
        kubectl.says("set", "image", "deploy/d", "server=a:2")
        assert "successfully rolled out" in kubectl.says("rollout", "status", "deploy/d", "--timeout=20s")
        images = kubectl.says("get", "pods", "-l", "app=d", "-o", "jsonpath={.items[*].spec.containers[0].image}")
        assert set(images.split()) == {"a:2"}
        kubectl.says("delete", "deploy", "d")
        kubectl.says("wait", "--for=delete", "pod", "-l", "app=d", "--timeout=20s")
