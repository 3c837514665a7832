"""The defaults of built-in kinds that Kingmaker or kubectl would notice; the rest is left as it was sent."""

import json
import zlib

from tests.fakes.fake_apiserver.store import Object


def fill_built_in(item: Object, live: Object | None) -> None:
    kind, spec = item["kind"], item.get("spec")
    if kind == "Secret":
        item.setdefault("type", "Opaque")
    if not isinstance(spec, dict):
        return
    if kind == "Deployment":
        spec.setdefault("replicas", 1)
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("progressDeadlineSeconds", 600)
        rolling = {"maxSurge": "25%", "maxUnavailable": "25%"}
        spec.setdefault("strategy", {"type": "RollingUpdate", "rollingUpdate": rolling})
        if spec["strategy"].get("type") == "RollingUpdate":
            spec["strategy"]["rollingUpdate"] = rolling | spec["strategy"].get("rollingUpdate", {})
        _pod(spec.get("template", {}).get("spec", {}))
    elif kind == "Pod":
        _pod(spec)
    elif kind == "Service":
        spec.setdefault("type", "ClusterIP")
        spec.setdefault("sessionAffinity", "None")
        spec.setdefault("clusterIP", (live or {}).get("spec", {}).get("clusterIP") or _cluster_ip(item))
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
        for port in spec.get("ports", []):
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port.get("port"))
    elif kind == "HorizontalPodAutoscaler":
        spec.setdefault("minReplicas", 1)


def _pod(spec: Object) -> None:
    for key, value in (
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", 30),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("securityContext", {}),
    ):
        spec.setdefault(key, value)
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        tagged = ":" in str(container.get("image", "")).rpartition("/")[2]
        container.setdefault("imagePullPolicy", "IfNotPresent" if tagged else "Always")
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        for port in container.get("ports", []):
            port.setdefault("protocol", "TCP")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe in container:
                _probe(container[probe])
        for env in container.get("env", []):
            if "fieldRef" in env.get("valueFrom", {}):
                env["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")


def _probe(probe: Object) -> None:
    for key, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        probe.setdefault(key, value)
    if "httpGet" in probe:
        probe["httpGet"].setdefault("scheme", "HTTP")
        probe["httpGet"].setdefault("path", "/")


def _cluster_ip(item: Object) -> str:
    number = zlib.crc32(json.dumps([item["metadata"].get("namespace"), item["metadata"].get("name")]).encode())
    return f"10.96.{number >> 8 & 255}.{number % 254 + 1}"
