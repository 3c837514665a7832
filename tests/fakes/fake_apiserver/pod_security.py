"""The `restricted` Pod Security Standard, for namespaces that enforce it by label."""

from collections.abc import Iterator

from tests.fakes.fake_apiserver.errors import ApiError
from tests.fakes.fake_apiserver.store import Object

ENFORCE = "pod-security.kubernetes.io/enforce"
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def admit(pod: Object, namespace: Object) -> None:
    """Raises ApiError 403 when the namespace enforces `restricted` and the pod does not keep it."""
    if (namespace["metadata"].get("labels") or {}).get(ENFORCE) != "restricted":
        return
    broken = list(violations(pod["spec"]))
    if broken:
        name = pod["metadata"].get("name", "")
        text = f'pods "{name}" is forbidden: violates PodSecurity "restricted:latest": {", ".join(broken)}'
        raise ApiError(403, "Forbidden", text, {"name": name, "kind": "pods"})


def violations(spec: Object) -> Iterator[str]:
    """What of a pod's spec the standard forbids, in the words of the admission plugin."""
    whole = spec.get("securityContext") or {}
    containers = [*spec.get("initContainers", []), *spec.get("containers", [])]
    for part in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(part):
            yield f"host namespaces ({part}=true)"
    for volume in spec.get("volumes", []):
        kinds = volume.keys() - {"name"}
        if not kinds <= _VOLUMES:
            yield f'restricted volume types (volume "{volume["name"]}" uses {", ".join(sorted(kinds - _VOLUMES))})'
    for container in containers:
        name, own = container["name"], container.get("securityContext") or {}
        capabilities = own.get("capabilities") or {}
        if own.get("privileged"):
            yield f'privileged (container "{name}" must not set securityContext.privileged=true)'
        if own.get("allowPrivilegeEscalation") is not False:
            yield (
                "allowPrivilegeEscalation != false "
                f'(container "{name}" must set securityContext.allowPrivilegeEscalation=false)'
            )
        if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f'unrestricted capabilities (container "{name}" must set securityContext.capabilities.drop=["ALL"])'
        if own.get("runAsNonRoot", whole.get("runAsNonRoot")) is not True:
            yield f'runAsNonRoot != true (pod or container "{name}" must set securityContext.runAsNonRoot=true)'
        if own.get("runAsUser", whole.get("runAsUser")) == 0:
            yield f'runAsUser=0 (pod or container "{name}" must not set runAsUser=0)'
        profile = (own.get("seccompProfile") or whole.get("seccompProfile") or {}).get("type")
        if profile not in ("RuntimeDefault", "Localhost"):
            yield (
                f'seccompProfile (pod or container "{name}" must set securityContext.seccompProfile.type to '
                '"RuntimeDefault" or "Localhost")'
            )
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f'hostPort (container "{name}" uses a hostPort)'
