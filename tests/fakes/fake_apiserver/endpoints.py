"""Which pods stand behind a Service, as one EndpointSlice says it."""

from tests.fakes.fake_apiserver.store import Object


def slice_of(service: Object, pods: list[Object]) -> Object:
    """The EndpointSlice of a Service with a selector. Pods without an address are left out."""
    meta, spec = service["metadata"], service["spec"]
    selected = [
        pod
        for pod in pods
        if spec["selector"].items() <= (pod["metadata"].get("labels") or {}).items()
        and pod.get("status", {}).get("podIP")
    ]
    owner = {"apiVersion": "v1", "kind": "Service", "name": meta["name"], "uid": meta["uid"], "controller": True}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{meta['name']}-fake",
            "labels": {**(meta.get("labels") or {}), "kubernetes.io/service-name": meta["name"]},
            "ownerReferences": [{**owner, "blockOwnerDeletion": True}],
        },
        "addressType": "IPv4",
        "endpoints": [_endpoint(pod, bool(spec.get("publishNotReadyAddresses"))) for pod in selected],
        "ports": [_port(port, selected) for port in spec.get("ports", [])],
    }


def _endpoint(pod: Object, unready_too: bool) -> Object:
    conditions = pod["status"].get("conditions", [])
    serving = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    terminating = bool(pod["metadata"].get("deletionTimestamp"))
    ready = unready_too or (serving and not terminating)
    about = {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": {**about, "uid": pod["metadata"]["uid"]},
    }


def _port(port: Object, pods: list[Object]) -> Object:
    target = port.get("targetPort", port["port"])
    if isinstance(target, str):
        named = [
            p for pod in pods for c in pod["spec"]["containers"] for p in c.get("ports", []) if p.get("name") == target
        ]
        target = named[0]["containerPort"] if named else port["port"]
    return {"name": port.get("name", ""), "port": target, "protocol": port.get("protocol", "TCP")}
