"""The settings an operator may give a service, as a schema: read from the services' own settings classes.

What the chart decides itself (ports, addresses, files, Redis) is left out, so that nothing can be said twice.
"""

from typing import Any, Final

from pydantic_settings import BaseSettings

from kingmaker_controller.settings import Settings as ControllerSettings
from kingmaker_gateway.settings import Settings as GatewaySettings
from kingmaker_monitor.settings import Settings as MonitorSettings

Schema = dict[str, Any]

SETTINGS_OF: Final = "x-kingmaker-settings-of"
"""Marks a field that holds settings of this service."""

_CLASSES: Final[dict[str, type[BaseSettings]]] = {
    "gateway": GatewaySettings,
    "monitor": MonitorSettings,
    "controller": ControllerSettings,
}
_EVERYWHERE: Final = ("NAMESPACE", "HOST", "PORT", "REDIS_", "LOG_", "DRAIN_SECONDS")
_BY_CHART: Final[dict[str, tuple[str, ...]]] = {
    "gateway": (*_EVERYWHERE, "ADMIN_PORT", "SNAPSHOT_FILE", "GATEWAY_ID", "AUTH__", "TLS__"),
    "monitor": (*_EVERYWHERE, "STATE_FILE", "SHARD"),
    "controller": (
        *_EVERYWHERE,
        "FILE",
        "STATE_DIR",
        "TOKEN_FILE",
        "REGISTRY_URI",
        "RUNTIME__",
        "KUBERNETES__IMAGE",
        "KUBERNETES__NAMESPACE",
        "KUBERNETES__KUBECONFIG",
        "KUBERNETES__HOLDER",
        "KUBERNETES__LEASE",
        "KUBERNETES__LISTEN_ADDRESS",
        "KUBERNETES__REGISTRY_SECRET",
        "KUBERNETES__SERVICE_MONITOR",
    ),
}


def schema_of(service: str) -> Schema:
    """An object whose properties are the settings left to an operator, by name without the prefix."""
    raw = _CLASSES[service].model_json_schema()
    found = dict(_flat(raw, raw.get("$defs", {}), ""))
    taken = _BY_CHART[service]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: part for name, part in found.items() if not name.startswith(taken)},
    }


def _flat(raw: Schema, definitions: dict[str, Schema], prefix: str) -> list[tuple[str, Schema]]:
    found = []
    for name, part in raw["properties"].items():
        named = f"{prefix}{name.upper()}"
        target = _section(part, definitions)
        if target is not None:
            found += _flat(target, definitions, f"{named}__")
        else:
            kept = (
                "type",
                "minimum",
                "maximum",
                "exclusiveMinimum",
                "exclusiveMaximum",
                "enum",
                "pattern",
                "minLength",
            )
            found.append((named, {key: part[key] for key in kept if key in part}))
    return found


def _section(part: Schema, definitions: dict[str, Schema]) -> Schema | None:
    """The nested settings a field stands for; None for a plain one."""
    for choice in (part, *part.get("anyOf", []), *part.get("allOf", [])):
        if "$ref" in choice:
            return definitions[choice["$ref"].rpartition("/")[2]]
    return None
