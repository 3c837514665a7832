"""Which version a model string means, asked of MLflow over HTTP: two small questions, no mlflow in the controller.

Asked once, before the first pod of a variant exists, so that all its pods fetch the same version, and a model that
is not there is said at once and not by a pod that crashes.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

import httpx

from kingmaker_controller.errors import FetchFailed
from kingmaker_controller.runtimes.podspec import Pin

SHA_TAG: Final = "kingmaker.onnx_sha256"
TIMEOUT_S: Final = 10.0
_FORM: Final = re.compile(r"models:/(?P<name>[^/:@]+)(?:/(?P<version>[0-9]+)|@(?P<alias>[^/:@]+))")
_NO_ENTRY: Final = "the controller's MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN, do not fit"
_NOT_THERE: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


def credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """The header that MLflow's own clients send for the variables they read, user and password before a token: so one
    Secret serves the fetch step and us."""
    user, password = environ.get("MLFLOW_TRACKING_USERNAME"), environ.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    token = environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


class Registry:
    """uri: MLflow's tracking server, http or https; client: with no base and its own timeouts; headers: of every
    question."""

    def __init__(self, uri: str, client: httpx.AsyncClient, headers: Mapping[str, str] | None = None) -> None:
        self._root = f"{uri.rstrip('/')}/api/2.0/mlflow"
        self._uri = uri
        self._client = client
        self._headers = dict(headers or {})

    async def resolve(self, model: str) -> Pin:
        """Raises FetchFailed with the fetch step's reasons."""
        form = _FORM.fullmatch(model)
        if form is None:
            raise FetchFailed(f"{model!r} is neither models:/NAME/VERSION nor models:/NAME@ALIAS", "ModelNotFound")
        name, version, alias = form.group("name", "version", "alias")
        if alias:
            answer = await self._ask("registered-models/alias", {"name": name, "alias": alias})
        else:
            answer = await self._ask("model-versions/get", {"name": name, "version": version})
        if answer is None:
            raise await self._missing(name, version, alias)
        found = answer["model_version"]
        tags = {tag["key"]: tag.get("value", "") for tag in found.get("tags") or []}
        return Pin(str(found["version"]), str(tags.get(SHA_TAG, "")))

    async def _missing(self, name: str, version: str | None, alias: str | None) -> FetchFailed:
        answer = await self._ask("registered-models/get", {"name": name})
        if answer is None:
            return FetchFailed(f"the registry has no model {name!r}", "ModelNotFound")
        if alias:
            known = ", ".join(sorted(a["alias"] for a in answer["registered_model"].get("aliases") or [])) or "none"
            return FetchFailed(f"model {name!r} has no alias {alias!r}; it has {known}", "AliasNotFound")
        return FetchFailed(f"model {name!r} has no version {version}", "VersionNotFound")

    async def _ask(self, what: str, query: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None when there is no such thing. Raises FetchFailed."""
        try:
            url = f"{self._root}/{what}"
            answer = await self._client.get(url, params=query, headers=self._headers, timeout=TIMEOUT_S)
            if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                raise FetchFailed(f"registry {self._uri} answered {answer.status_code}: {_NO_ENTRY}", "RegistryRefused")
            body: Any = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            text = f"registry {self._uri}: {error or type(error).__name__}"
            raise FetchFailed(text, "RegistryUnreachable") from error
        if answer.status_code == httpx.codes.OK and isinstance(body, dict):
            return body
        if isinstance(body, dict) and body.get("error_code") in _NOT_THERE:
            return None
        text = f"registry {self._uri} answered {answer.status_code}: {str(body)[:200]}"
        raise FetchFailed(text, "RegistryUnreachable")
