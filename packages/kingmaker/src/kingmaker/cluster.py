"""ServedModels of a Kubernetes cluster, through kubectl.

kubectl rather than a client library: its configuration, contexts and login plugins are what the user already
has, and a patch sent by it is owned and shown as any other.
"""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kingmaker.controller_api import ModelView
from kingmaker_contracts.status import Status

_RESOURCE: Final = "servedmodels.kingmaker.dev"
_TIMEOUT_S: Final = 60
FIELD_MANAGER: Final = "kingmaker"
"""Who owns the weights set here, as a conflict names it."""


class ClusterError(Exception):
    """kubectl could not do it; the text is kubectl's own."""


@dataclass(frozen=True)
class Cluster:
    """A namespace of a cluster; None: as the user's kubeconfig says."""

    namespace: str | None = None
    context: str | None = None

    def models(self, name: str | None) -> list[ModelView]:
        """Every model of the namespace, or the one called `name`. Raises ClusterError."""
        if name is not None:
            return [_view(self._get(name))]
        listed = json.loads(self._kubectl("get", _RESOURCE, "--output", "json"))
        return [_view(item) for item in listed["items"]]

    def set_weights(self, name: str, weights: Mapping[str, int]) -> dict[str, int | None]:
        """Patch these weights alone; gives them as they were. Raises ClusterError, also when the cluster refuses."""
        before = self._get(name)["spec"].get("weights") or {}
        patch = json.dumps({"spec": {"weights": dict(weights)}})
        self._kubectl("patch", _RESOURCE, name, "--type=merge", f"--field-manager={FIELD_MANAGER}", "--patch", patch)
        return {challenger: before.get(challenger) for challenger in weights}

    def _get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._kubectl("get", _RESOURCE, name, "--output", "json"))
        return found

    def _kubectl(self, *arguments: str) -> str:
        where = [f"--namespace={self.namespace}"] * (self.namespace is not None)
        where += [f"--context={self.context}"] * (self.context is not None)
        try:
            done = subprocess.run(
                ["kubectl", *arguments, *where], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except FileNotFoundError:
            raise ClusterError("kubectl is not on the PATH; install it, or use --local") from None
        except subprocess.TimeoutExpired:
            raise ClusterError(f"kubectl did not answer within {_TIMEOUT_S} s") from None
        if done.returncode != 0:
            raise ClusterError(done.stderr.strip() or f"kubectl ended with code {done.returncode}")
        return done.stdout


def _view(item: dict[str, Any]) -> ModelView:
    meta = item["metadata"]
    try:
        status = msgspec.convert(item.get("status") or {}, Status)
    except msgspec.ValidationError as error:
        raise ClusterError(f"{meta['name']} has a status this command does not know: {error}") from None
    return ModelView(meta["namespace"], meta["name"], item["spec"]["mode"], meta["creationTimestamp"], status)
