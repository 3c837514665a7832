"""The two faces of Event: core/v1 and events.k8s.io/v1 are one stored object under different field names."""

from tests.fakes.fake_apiserver.kinds import Kind
from tests.fakes.fake_apiserver.store import Object

_RENAMED = {
    "regarding": "involvedObject",
    "note": "message",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "reportingController": "reportingComponent",
}


def as_kept(item: Object, kind: Kind) -> Object:
    """An object as it is stored: Events in their core form."""
    if kind.group != "events.k8s.io":
        return item
    kept = {_RENAMED.get(key, key): value for key, value in item.items()}
    return {**kept, "apiVersion": "v1"}


def as_served(item: Object, kind: Kind) -> Object:
    """A stored object as this API version shows it."""
    if kind.group != "events.k8s.io":
        return item
    back = {old: new for new, old in _RENAMED.items()}
    return {**{back.get(key, key): value for key, value in item.items()}, "apiVersion": kind.api_version}
