"""What the suite installs in a real cluster before the first ServedModel: plain objects, as small as they can be.

Pods instead of Deployments for controllers: a scenario decides when one runs. Rights are those README.md of the
controller lists; the namespace enforces the Pod Security Standard `restricted` for everybody in it.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

CONTROLLER, GATEWAY, REDIS, MLFLOW = "controller", "gateway", "redis", "mlflow"
PORTS = {CONTROLLER: 8083, GATEWAY: 8080, REDIS: 6379, MLFLOW: 5000}
USER = 65532


@dataclass(frozen=True, slots=True)
class Images:
    """registry: before the names of this product's own images, "" for none; tag: behind them."""

    registry: str
    tag: str
    redis: str
    mlflow: str

    def own(self, service: str) -> str:
        return f"{self.registry.rstrip('/')}/kingmaker-{service}:{self.tag}".lstrip("/")


def namespace(name: str) -> Object:
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "kingmaker.dev/e2e": "true"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def rights() -> list[Object]:
    """Of the controller."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": CONTROLLER}}
    watch, write = ["list", "watch"], ["create", "patch", "delete"]
    rules = [
        _rule("kingmaker.dev", ["servedmodels"], ["get", *watch]),
        _rule("kingmaker.dev", ["servedmodels/status"], ["patch"]),
        _rule("apps", ["deployments"], watch + write),
        _rule("", ["services"], watch + write),
        _rule("policy", ["poddisruptionbudgets"], watch + write),
        _rule("autoscaling", ["horizontalpodautoscalers"], watch + write),
        _rule("monitoring.coreos.com", ["servicemonitors"], watch + write),
        _rule("", ["pods"], watch),
        _rule("coordination.k8s.io", ["leases"], ["get", "create", "update"]),
        _rule("events.k8s.io", ["events"], ["get", "create", "patch"]),
    ]
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": CONTROLLER}, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": CONTROLLER},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": CONTROLLER},
        "subjects": [{"kind": "ServiceAccount", "name": CONTROLLER}],
    }
    return [account, role, binding]


def token(text: str) -> Object:
    data = {"token": base64.b64encode(text.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "type": "Opaque", "data": data}


def service(name: str) -> Object:
    ports = [{"name": "main", "port": PORTS[name], "targetPort": "main"}]
    spec = {"clusterIP": "None", "selector": {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def redis(images: Images) -> Object:
    arguments = ["--bind", "0.0.0.0", "--port", str(PORTS[REDIS]), "--dir", "/data", "--protected-mode", "no"]
    return _pod(REDIS, REDIS, images.redis, ["valkey-server", *arguments, "--save", ""])


def mlflow(images: Images) -> Object:
    command = ["mlflow", "server", "--host", "0.0.0.0", "--port", str(PORTS[MLFLOW]), "--workers", "1"]
    command += ["--backend-store-uri", "sqlite:////data/mlflow.db", "--artifacts-destination", "/data/artifacts"]
    env = {"HOME": "/tmp", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command += ["--allowed-hosts", "*"]  # MLflow answers to names of its own choice only
    return _pod(MLFLOW, MLFLOW, images.mlflow, command, env, probe="/health")


def gateway(images: Images, namespace: str) -> Object:
    settings = {
        "HOST": "0.0.0.0",
        "PORT": str(PORTS[GATEWAY]),
        "REDIS_URL": f"redis://{REDIS}.{namespace}.svc:{PORTS[REDIS]}/0",
        "NAMESPACE": namespace,
    }
    env = {f"KINGMAKER_GATEWAY_{key}": value for key, value in settings.items()}
    return _pod(GATEWAY, GATEWAY, images.own(GATEWAY), ["python", "-m", "kingmaker_gateway"], env)


def controller(name: str, images: Images, namespace: str, more: Mapping[str, str]) -> Object:
    settings = {
        "HOST": "0.0.0.0",
        "PORT": str(PORTS[CONTROLLER]),
        "REDIS_URL": f"redis://{REDIS}.{namespace}.svc:{PORTS[REDIS]}/0",
        "REGISTRY_URI": f"http://{MLFLOW}.{namespace}.svc:{PORTS[MLFLOW]}",
        "TOKEN_FILE": "/etc/kingmaker/token",
        "KUBERNETES__IMAGE": images.own("model-server"),
        "KUBERNETES__NAMESPACE": namespace,
        **more,
    }
    env = {f"KINGMAKER_CONTROLLER_{key}": value for key, value in settings.items()}
    pod = _pod(name, CONTROLLER, images.own(CONTROLLER), ["python", "-m", "kingmaker_controller"], env)
    pod["spec"] |= {"serviceAccountName": CONTROLLER, "automountServiceAccountToken": True}
    pod["spec"]["volumes"].append({"name": "token", "secret": {"secretName": "token"}})
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    mounts.append({"name": "token", "mountPath": "/etc/kingmaker", "readOnly": True})
    return pod


def _rule(group: str, resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _pod(
    name: str, app: str, image: str, command: list[str], env: Mapping[str, str] | None = None, *, probe: str = ""
) -> Object:
    """A pod that is not started again, and may write to /data and /tmp. probe: a path that answers 200 when ready."""
    ready = {"httpGet": {"path": probe, "port": "main"}} if probe else {"tcpSocket": {"port": "main"}}
    container = {
        "name": app,
        "image": image,
        "command": command,
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
        "ports": [{"name": "main", "containerPort": PORTS[app], "protocol": "TCP"}],
        "readinessProbe": {**ready, "periodSeconds": 1, "timeoutSeconds": 2},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 15,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
        },
    }
