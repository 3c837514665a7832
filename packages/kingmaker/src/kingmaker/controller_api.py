"""The controller's REST API as the commands see it: read-only, with the stack's token."""

from typing import Any

import httpx
import msgspec

from kingmaker.local.running import Stack
from kingmaker_contracts.status import Status


class ControllerError(Exception):
    """The controller did not answer as expected."""


class ModelView(msgspec.Struct, frozen=True):
    """One ServedModel as the controller shows it."""

    namespace: str
    name: str
    mode: str
    created_at: str
    status: Status


def models(stack: Stack) -> list[ModelView]:
    """Every model of the stack. Raises ControllerError."""
    return msgspec.convert(_get(stack, "/api/models"), list[ModelView])


def audit(stack: Stack, namespace: str, name: str) -> list[dict[str, Any]]:
    """What was decided and why, oldest first. Raises ControllerError."""
    found: list[dict[str, Any]] = _get(stack, f"/api/models/{namespace}/{name}/audit")
    return found


def _get(stack: Stack, path: str) -> Any:
    url = stack.addresses["controller"] + path
    try:
        token = stack.layout.token.read_text().strip()
        # Not by way of a proxy: the stack is on this machine.
        answer = httpx.get(url, headers={"authorization": f"Bearer {token}"}, timeout=5, trust_env=False)
        answer.raise_for_status()
        return answer.json()
    except (OSError, httpx.HTTPError, ValueError) as error:
        raise ControllerError(f"the controller at {url} did not answer: {error}") from None
