"""`kubectl kingmaker` is the `kingmaker` command, found and run by a real kubectl and looking at its cluster."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.deploy.conftest import Kubectl
from tests.deploy.test_kubectl_feels_native import FLIGHTS, RUNNING, report
from tests.fakes.fake_apiserver import FakeApiserver


@pytest.fixture
def plugin(kubectl: Kubectl, tmp_path: Path) -> Kubectl:
    """A kubectl whose PATH has itself and the plugin, and nothing else of this repository."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "kubectl").symlink_to(kubectl.binary)
    (folder / "kubectl-kingmaker").symlink_to(Path(sys.executable).parent / "kubectl-kingmaker")
    kubectl.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    kubectl.says("apply", "-f", "-", stdin=FLIGHTS)
    return kubectl


def test_kubectl_finds_the_plugin(plugin: Kubectl) -> None:
    assert "kubectl-kingmaker" in plugin.says("plugin", "list")
    assert "Usage: kubectl kingmaker" in plugin.says("kingmaker", "--help", TERM="dumb")


def test_get_shows_the_clusters_models(plugin: Kubectl, server: FakeApiserver) -> None:
    report(server, **RUNNING)
    head, row = plugin.says("kingmaker", "get").splitlines()
    assert head.split() == ["NAME", "MODE", "PHASE", "CHAMPION", "WEIGHTS", "READY", "AGE", "MESSAGE"]
    assert row.split()[:6] == ["flights", "Canary", "Progressing", "lr", "lr=95,gbm=5", "True"]
    [view] = json.loads(plugin.says("kingmaker", "get", "flights", "-o", "json"))
    assert view["status"]["champion"]["name"] == "lr"


def test_a_model_without_a_status_is_shown_too(plugin: Kubectl) -> None:
    assert plugin.says("kingmaker", "get").splitlines()[1].split()[:3] == ["flights", "Canary", "Pending"]


def test_set_weight_patches_one_weight_and_owns_it(plugin: Kubectl) -> None:
    assert plugin.says("kingmaker", "set-weight", "flights", "gbm=20") == "flights: gbm 5 % -> 20 % in the cluster\n"
    item = json.loads(plugin.says("get", "sm", "flights", "-o", "json", "--show-managed-fields"))
    assert item["spec"]["weights"] == {"gbm": 20}
    owners = {entry["manager"]: entry["fieldsV1"] for entry in item["metadata"]["managedFields"]}
    assert owners["kingmaker"] == {"f:spec": {"f:weights": {"f:gbm": {}}}}


def test_what_the_cluster_refuses_is_told_in_its_words(plugin: Kubectl) -> None:
    error = plugin.refuses("kingmaker", "set-weight", "flights", "nn=20")
    assert "weights names something that is no challenger" in error
    assert 'servedmodels.kingmaker.dev "nothing" not found' in plugin.refuses("kingmaker", "get", "nothing")


def test_options_that_contradict_each_other_are_refused(plugin: Kubectl) -> None:
    assert "--file is for a stack" in plugin.refuses("kingmaker", "get", "--file", "x.yaml")
    assert "add --cluster" in plugin.refuses("kingmaker", "get", "--local", "-n", "default")


def test_namespace_and_context_are_kubectls(plugin: Kubectl) -> None:
    assert plugin.says("kingmaker", "get", "-n", "other").splitlines()[1:] == []
    assert len(plugin.says("kingmaker", "get", "--context", "fake").splitlines()) == 2
    assert "context" in plugin.refuses("kingmaker", "get", "--context", "nowhere")


def test_on_this_machine_it_looks_for_stacks(plugin: Kubectl) -> None:
    assert "no stack on this machine runs" in plugin.refuses("kingmaker", "get", "--local")
