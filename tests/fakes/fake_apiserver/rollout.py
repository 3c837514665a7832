"""The arithmetic of a Deployment: which pods are its newest, how many may be missing, what it says of itself."""

import hashlib
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime

from tests.fakes.fake_apiserver.store import Object


def template_hash(template: Object) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:8]


def room(spec: Object, wanted: int) -> tuple[int, int]:
    """(surge, unavailable) of a rolling update in pods; a Recreate may stop everything first."""
    if spec["strategy"]["type"] != "RollingUpdate":
        return 0, wanted
    rolling = spec["strategy"]["rollingUpdate"]
    surge = pods(rolling["maxSurge"], wanted, math.ceil)
    unavailable = pods(rolling["maxUnavailable"], wanted, math.floor)
    return (surge, unavailable) if surge or unavailable else (0, 1)


def pods(share: int | str, wanted: int, rounded: Callable[[float], int]) -> int:
    if isinstance(share, int):
        return share
    return int(rounded(int(share.rstrip("%")) * wanted / 100))


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def condition(old: dict[str, Object], type_: str, holds: bool, reason: str) -> Object:
    status = "True" if holds else "False"
    before = old.get(type_, {})
    changed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    since = before["lastTransitionTime"] if before.get("status") == status else changed
    return {"type": type_, "status": status, "lastTransitionTime": since} | ({"reason": reason} if reason else {})
