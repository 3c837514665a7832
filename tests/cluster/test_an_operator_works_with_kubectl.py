"""An operator's day with a real kubectl: apply, wait, look, patch, the plugin, a refused edit, delete."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.stage import Stage
from tests.deploy.conftest import Kubectl

ROOT = Path(__file__).parents[2]
FLIGHTS = """
apiVersion: kingmaker.dev/v1alpha1
kind: ServedModel
metadata: {name: flights}
spec:
  champion: {name: lr, model: models:/flights@champion}
  challengers:
  - {name: gbm, model: models:/flights/2}
  weights: {gbm: 5}
"""
OWN = "app.kubernetes.io/managed-by=kingmaker"
PROGRAMMED = ("wait", "--for=condition=Programmed", "sm/flights", "--timeout=60s")


@pytest.fixture
def kubectl(stage: Stage) -> Kubectl:
    """kubectl for the stage, with the plugin on its PATH."""
    found = subprocess.run([ROOT / "scripts/kubectl"], capture_output=True, text=True, check=True)
    binary = Path(found.stdout.strip())
    folder = stage.folder / "bin"
    folder.mkdir()
    (folder / "kubectl").symlink_to(binary)
    (folder / "kubectl-kingmaker").symlink_to(Path(sys.executable).parent / "kubectl-kingmaker")
    made = Kubectl(binary, stage.cluster.kubeconfig)
    made.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    return made


def row(kubectl: Kubectl) -> list[str]:
    [line] = kubectl.says("get", "sm", "flights", "--no-headers").splitlines()
    return line.split()


def test_from_apply_to_delete(stage: Stage, kubectl: Kubectl) -> None:
    stage.controller()
    stage.start_gateway()
    assert "created" in kubectl.says("apply", "-f", "-", stdin=FLIGHTS)
    kubectl.says(*PROGRAMMED)
    stage.until(lambda: "lr=95,gbm=5" in row(kubectl), "the challenger has its weight", 60)
    assert row(kubectl)[:4] == ["flights", "Canary", row(kubectl)[2], "lr"]
    stage.until(lambda: stage.answered_by() in {"lr", "gbm"}, "the gateway answers")

    kubectl.says("patch", "sm", "flights", "--type", "merge", "-p", '{"spec":{"weights":{"gbm":20}}}')
    kubectl.says(*PROGRAMMED)
    assert stage.record().ranges == "gbm:0-1999", "gateways have it when wait returns"
    assert row(kubectl)[4:6] == ["lr=80,gbm=20", "True"]

    assert kubectl.says("kingmaker", "set-weight", "flights", "gbm=30") == "flights: gbm 20 % -> 30 % in the cluster\n"
    kubectl.says(*PROGRAMMED)
    assert "lr=70,gbm=30" in kubectl.says("kingmaker", "get", "flights")

    wrong = '{"spec":{"weights":{"gbm":101}}}'
    assert "less than or equal to 100" in kubectl.refuses("patch", "sm", "flights", "--type", "merge", "-p", wrong)
    text = kubectl.says("describe", "sm", "flights")
    assert "WeightChanged" in text.partition("Events:")[2]
    for condition in ("Accepted", "ResolvedRefs", "Ready", "Programmed", "SpecCurrent"):
        assert condition in text

    kubectl.says("delete", "sm", "flights", "--timeout=60s")
    stage.until(lambda: not stage.is_routed(), "the routing record is gone", 30)
    stage.until(
        lambda: not json.loads(kubectl.says("get", "deploy,svc,pods", "-l", OWN, "-o", "json"))["items"],
        "so is the rest",
        60,
    )
