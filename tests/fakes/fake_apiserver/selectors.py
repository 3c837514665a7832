"""Label and field selectors, in the forms kubectl and clients send them."""

import re
from collections.abc import Callable
from typing import Any

from tests.fakes.fake_apiserver.errors import bad_request

Test = Callable[[dict[str, Any]], bool]
_SET_BASED = re.compile(r"^\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*$")
_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "status.phase",
    "type",
    "reason",
    "reportingComponent",
    "source",
)


def labels(selector: str) -> Test:
    """`a=b,c!=d,e in (f,g),h,!i` over metadata.labels."""
    tests = [_label_test(part) for part in re.split(r",(?![^(]*\))", selector) if part.strip()]
    return lambda item: all(test(item.get("metadata", {}).get("labels") or {}) for test in tests)


def _label_test(part: str) -> Callable[[dict[str, str]], bool]:
    if match := _SET_BASED.match(part):
        key, operator, listed = match.groups()
        values = {value.strip() for value in listed.split(",")}
        return lambda found: (found.get(key) in values) == (operator == "in")
    part = part.strip()
    if "!=" in part:
        key, _, value = part.partition("!=")
        return lambda found: found.get(key.strip()) != value.strip()
    if "=" in part:
        key, _, value = part.replace("==", "=").partition("=")
        return lambda found: found.get(key.strip()) == value.strip()
    return lambda found: (part.lstrip("!") in found) != part.startswith("!")


def fields(selector: str) -> Test:
    """`metadata.name=x,involvedObject.uid!=y`. Raises ApiError 400 for a field that no kind here can be selected by."""
    tests = []
    for part in filter(None, selector.split(",")):
        path, is_not, value = part.partition("!=")
        if not is_not:
            path, _, value = part.replace("==", "=").partition("=")
        if path not in _FIELDS and not path.startswith(("involvedObject.", "regarding.")):
            raise bad_request(f'Unable to find field selector: field label not supported: "{path}"')
        tests.append((path.split("."), value, bool(is_not)))
    return lambda item: all((_look_up(item, path) == value) != negated for path, value, negated in tests)


def _look_up(item: dict[str, Any], path: list[str]) -> str:
    found: Any = item
    for part in path:
        found = found.get(part, "") if isinstance(found, dict) else ""
    return str(found)
