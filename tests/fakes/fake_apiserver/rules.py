"""The `x-kubernetes-validations` of a schema, evaluated by a CEL implementation.

Kubernetes adds its list library to CEL; the two functions our rules use are put in here. A rule only runs where
types are right, as on an apiserver.
"""

import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any

import cel

from tests.fakes.fake_apiserver.structural import Cause, Schema, child, items_of, type_name


@cache
def _program(rule: str) -> "cel.Program":
    return cel.compile(rule)


def holds(rule: str, value: Any) -> bool:
    """Whether the rule is true of value (`self`). Raises ValueError or RuntimeError when it cannot be evaluated."""
    context = cel.Context()
    context.add_variable("self", value)
    context.add_function("sum", sum)
    context.add_function("isSorted", lambda items: all(a <= b for a, b in itertools.pairwise(items)))
    return bool(_program(rule).execute(context))


def broken(value: Any, schema: Schema, path: str = "") -> Iterator[Cause]:
    """Every rule of the schema that value breaks, outermost first."""
    for rule in schema.get("x-kubernetes-validations", []):
        if not holds(rule["rule"], value):
            at = path + rule.get("fieldPath", "")
            # the value shown is only the type of where the rule stands, as on an apiserver
            yield at, "FieldValueInvalid", f'{at}: Invalid value: "{type_name(value)}": {rule["message"]}'
    if isinstance(value, dict):
        for key, item in value.items():
            yield from broken(item, child(schema, key) or {}, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from broken(item, items_of(schema), f"{path}[{i}]")
