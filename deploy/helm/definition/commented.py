"""values.yaml as a person reads it: every field with its default, and what it means above it."""

import json
import textwrap
from typing import Any

import yaml
from pydantic import BaseModel

from deploy.helm.definition.parts import Placed

WIDTH = 118


def of_values(values: type[BaseModel]) -> str:
    return "\n".join(_lines(values, values(), 0)).strip() + "\n"


def _lines(kind: type[BaseModel], default: BaseModel, depth: int) -> list[str]:
    indent = "  " * depth
    found: list[str] = []
    shared = Placed.model_fields.keys() if kind is not Placed and issubclass(kind, Placed) else ()
    for name in sorted(kind.model_fields, key=lambda name: name in shared):  # a component's own fields first
        field = kind.model_fields[name]
        if depth == 0:
            found.append("")
        text = textwrap.wrap(field.description or "", WIDTH - len(indent) - 2)
        found += [f"{indent}# {line}" for line in text]
        key, value = f"{indent}{field.alias}:", getattr(default, name)
        if isinstance(value, BaseModel):
            found += [key, *_lines(type(value), value, depth + 1)]
        else:
            found += _plain(key, value, indent)
    return found


def _plain(key: str, value: Any, indent: str) -> list[str]:
    if value in ({}, []) or not isinstance(value, dict | list):
        return [f"{key} {json.dumps(value)}"]
    text = yaml.safe_dump(value, sort_keys=False, default_flow_style=False)
    return [key, *(f"{indent}  {line}" for line in text.splitlines())]
