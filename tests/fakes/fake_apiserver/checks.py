"""What an apiserver checks of built-in kinds beyond their schema, as far as a wrong manifest of ours would meet it."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.fakes.fake_apiserver.kinds import Kind
from tests.fakes.fake_apiserver.store import Object
from tests.fakes.fake_apiserver.structural import Cause

_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_SERVICE = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
_PORT_NAME = re.compile(r"^(?=.*[a-z])[a-z0-9](-?[a-z0-9])*$")
_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_QUALIFIED = re.compile(r"^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
_QUANTITY = re.compile(r"^([+-]?[0-9.]+)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi|e[+-]?\d+)?$")
_UNITS: dict[str, int | Decimal] = {
          "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
          "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}  # fmt: skip


def faults(kind: Kind, item: Object, live: Object | None) -> Iterator[Cause]:
    """Everything wrong with item that its schema cannot say. live: what it replaces."""
    yield from _meta(kind, item["metadata"])
    if kind.kind == "Event":
        yield from _event(kind, item, live)
    elif kind.kind == "Deployment":
        yield from _deployment(item, live)
    elif kind.kind == "Pod":
        yield from _pod(item["spec"], "spec")
    elif kind.kind == "Service":
        yield from _service(item.get("spec", {}))
    elif kind.kind == "PodDisruptionBudget" and {"minAvailable", "maxUnavailable"} <= item.get("spec", {}).keys():
        yield _wrong("spec", "minAvailable and maxUnavailable cannot be both set")
    elif kind.kind == "HorizontalPodAutoscaler" and item["spec"]["maxReplicas"] < item["spec"].get("minReplicas", 1):
        yield _wrong("spec.maxReplicas", "must be greater than or equal to `minReplicas`")
    elif kind.kind == "Lease" and item.get("spec", {}).get("leaseDurationSeconds", 1) <= 0:
        yield _wrong("spec.leaseDurationSeconds", "must be greater than 0")


def _wrong(field: str, text: str, value: Any = None) -> Cause:
    return field, "FieldValueInvalid", f"{field}: Invalid value: {'null' if value is None else repr(value)}: {text}"


def _missing(field: str, text: str = "") -> Cause:
    return field, "FieldValueRequired", f"{field}: Required value" + (f": {text}" if text else "")


def _meta(kind: Kind, meta: Object) -> Iterator[Cause]:
    name = meta.get("name", "")
    if kind.kind == "Service":
        shape, longest, text = _SERVICE, 63, "a DNS-1035 label must start with a letter and have at most 63 characters"
    elif kind.kind == "Namespace":
        shape, longest, text = _LABEL, 63, "a lowercase RFC 1123 label"
    else:
        shape, longest, text = _SUBDOMAIN, 253, "a lowercase RFC 1123 subdomain of at most 253 characters"
    if name and (len(name) > longest or not shape.match(name)):
        yield _wrong("metadata.name", text, name)
    yield from _labels(meta.get("labels") or {}, "metadata.labels")
    for key in meta.get("annotations") or {}:
        if not _is_qualified(key):
            yield _wrong(
                "metadata.annotations", "name part must consist of alphanumeric characters, '-', '_' or '.'", key
            )


def _is_qualified(key: str) -> bool:
    return bool(_QUALIFIED.match(key)) and len(key.rpartition("/")[2]) <= 63


def _labels(labels: dict[str, str], path: str) -> Iterator[Cause]:
    for key, value in labels.items():
        if not _is_qualified(key):
            yield _wrong(path, "name part must be no more than 63 characters of letters, digits, '-', '_' or '.'", key)
        if len(value) > 63 or not _VALUE.match(value):
            yield _wrong(path, "a valid label must be an empty string or at most 63 alphanumeric characters", value)


def _event(kind: Kind, item: Object, live: Object | None) -> Iterator[Cause]:
    if kind.group != "events.k8s.io":
        return
    note = item.get("note", "")
    for field, longest in (("reportingController", 0), ("reportingInstance", 128), ("action", 128), ("reason", 128)):
        if not item.get(field):
            yield _missing(field)
        elif longest and len(item[field]) > longest:
            yield _wrong(field, f"can have at most {longest} characters")
    if not item.get("eventTime"):
        yield _missing("eventTime")
    if item.get("reportingController") and not _is_qualified(item["reportingController"]):
        yield _wrong("reportingController", "a qualified name has at most one '/'", item["reportingController"])
    if item.get("type") not in ("Normal", "Warning"):
        yield _wrong("type", f"has invalid value: {item.get('type')}")
    if len(note.encode()) > 1024:
        yield _wrong("message", "can have at most 1024 characters")
    if item.get("regarding", {}).get("namespace", "") not in ("", item["metadata"]["namespace"]):
        yield _wrong("involvedObject.namespace", "does not match event.namespace")
    series = item.get("series")
    if series and series.get("count", 0) < 2:
        yield _wrong("series.count", "should be at least 2")
    for field, kept in (("note", "message"), ("reason", "reason"), ("type", "type"), ("eventTime", "eventTime"),
                        ("action", "action"), ("regarding", "involvedObject")):  # fmt: skip
        if live is not None and item.get(field) != live.get(kept):
            yield _wrong(kept, "field is immutable")


def _deployment(item: Object, live: Object | None) -> Iterator[Cause]:
    spec = item["spec"]
    wanted = spec["selector"].get("matchLabels", {})
    labels = spec["template"].get("metadata", {}).get("labels", {})
    yield from _labels(labels, "spec.template.metadata.labels")
    if not wanted and not spec["selector"].get("matchExpressions"):
        yield _missing("spec.selector")
    if not wanted.items() <= labels.items():
        yield _wrong("spec.template.metadata.labels", "`selector` does not match template `labels`")
    if live is not None and live["spec"]["selector"] != spec["selector"]:
        yield _wrong("spec.selector", "field is immutable")
    if spec["template"]["spec"].get("restartPolicy", "Always") != "Always":
        yield _wrong("spec.template.spec.restartPolicy", 'supported values: "Always"')
    yield from _pod(spec["template"]["spec"], "spec.template.spec")


def _pod(spec: Object, path: str) -> Iterator[Cause]:
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    names: set[str] = set()
    if not spec.get("containers"):
        yield _missing(f"{path}.containers")
    for part in ("initContainers", "containers"):
        for i, container in enumerate(spec.get(part, [])):
            at = f"{path}.{part}[{i}]"
            if len(container["name"]) > 63 or not _LABEL.match(container["name"]):
                yield _wrong(f"{at}.name", "a lowercase RFC 1123 label", container["name"])
            if container["name"] in names:
                yield f"{at}.name", "FieldValueDuplicate", f'{at}.name: Duplicate value: "{container["name"]}"'
            names.add(container["name"])
            if not container.get("image"):
                yield _missing(f"{at}.image")
            yield from _container(container, volumes, at)


def _container(container: Object, volumes: set[str], at: str) -> Iterator[Cause]:
    for i, mount in enumerate(container.get("volumeMounts", [])):
        if mount["name"] not in volumes:
            yield (
                f"{at}.volumeMounts[{i}].name",
                "FieldValueNotFound",
                f'{at}.volumeMounts[{i}].name: Not found: "{mount["name"]}"',
            )
    for i, port in enumerate(container.get("ports", [])):
        if "name" in port and (len(port["name"]) > 15 or not _PORT_NAME.match(port["name"])):
            yield _wrong(f"{at}.ports[{i}].name", "must be no more than 15 characters", port["name"])
    limits, requests = (
        {k: _amount(v) for k, v in container.get("resources", {}).get(part, {}).items()}
        for part in ("limits", "requests")
    )
    for part, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            if amount is None or amount < 0:
                yield _wrong(f"{at}.resources.{part}[{name}]", "quantities must match the regular expression", name)
    for name, amount in requests.items():
        most = limits.get(name)
        if amount is not None and most is not None and amount > most:
            yield _wrong(f"{at}.resources.requests", f"must be less than or equal to {name} limit of {most}")
    hooks = container.get("lifecycle", {})
    handlers = {"startupProbe": container.get("startupProbe"), "readinessProbe": container.get("readinessProbe"),
                "livenessProbe": container.get("livenessProbe"), "lifecycle.preStop": hooks.get("preStop")}  # fmt: skip
    for where, handler in handlers.items():
        if handler is not None and len(handler.keys() & {"exec", "httpGet", "tcpSocket", "grpc", "sleep"}) != 1:
            yield _missing(f"{at}.{where}", "must specify exactly one handler type")


def _amount(text: str | float) -> Decimal | None:
    match = _QUANTITY.match(str(text))
    if not match:
        return None
    unit = match[2] or ""
    return Decimal(match[1] + unit) if unit.startswith("e") else Decimal(match[1]) * _UNITS.get(unit, 1)


def _service(spec: Object) -> Iterator[Cause]:
    ports = spec.get("ports", [])
    if not ports and spec.get("clusterIP") != "None" and spec.get("type") != "ExternalName":
        yield _missing("spec.ports")
    for i, port in enumerate(ports):
        if len(ports) > 1 and not port.get("name"):
            yield _missing(f"spec.ports[{i}].name")
        if not 1 <= port["port"] <= 65535:
            yield _wrong(f"spec.ports[{i}].port", "must be between 1 and 65535, inclusive", port["port"])
