"""What a write may change, and what counts as a change."""

import json
from datetime import UTC, datetime

from tests.fakes.fake_apiserver.kinds import Kind
from tests.fakes.fake_apiserver.store import Object


def grace_s(kind: Kind, live: Object, options: Object) -> int:
    """A pod that is on a node stays until the node says that it is over; other objects go at once."""
    if kind.kind != "Pod" or "nodeName" not in live["spec"]:
        return 0
    return int(options.get("gracePeriodSeconds", live["spec"]["terminationGracePeriodSeconds"]))


def only_the_part(kind: Kind, live: Object, item: Object, subresource: str) -> Object:
    """A write to /status changes status alone; a write elsewhere leaves status alone."""
    if not kind.has_status:
        return item
    if subresource == "status":
        return (
            {**live, **({"status": item["status"]} if "status" in item else {})}
            if "status" in item
            else less(live, "status")
        )
    item = less(item, "status")
    return {**item, "status": live["status"]} if "status" in live else item


def is_left_alone(field: str, item: Object, live: Object | None) -> bool:
    """Whether a fault stands in a part that this write does not change: then it is no fault of the write."""
    part = field.partition(".")[0]
    return live is not None and part in item and item[part] == live.get(part)


def less(item: Object, part: str) -> Object:
    return {key: value for key, value in item.items() if key != part}


def body(item: Object) -> Object:
    """What a generation counts changes of."""
    return {key: value for key, value in item.items() if key not in ("metadata", "status")}


def same(live: Object, item: Object) -> bool:
    def plain(of: Object) -> str:
        owners = [less(entry, "time") for entry in of["metadata"].get("managedFields") or []]
        return json.dumps({**of, "metadata": {**of["metadata"], "managedFields": owners}}, sort_keys=True)

    return plain(live) == plain(item)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
