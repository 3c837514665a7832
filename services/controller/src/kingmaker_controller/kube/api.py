"""Requests to the API server: one method a verb, dicts in and out, an end to every wait."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from kingmaker_controller.errors import BadSettings, KubernetesError, KubernetesUnavailable

Object = dict[str, Any]

MANAGER: Final = "kingmaker-controller"
"""Field manager of everything this controller applies."""
CALL_TIMEOUT_S: Final = 10.0
PAGE: Final = 500
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource type. api_version: `v1` or `group/version`."""

    api_version: str
    plural: str
    kind: str

    @property
    def root(self) -> str:
        return f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"


SERVED_MODEL: Final = Kind("kingmaker.dev/v1alpha1", "servedmodels", "ServedModel")
DEPLOYMENT: Final = Kind("apps/v1", "deployments", "Deployment")
POD: Final = Kind("v1", "pods", "Pod")
SERVICE: Final = Kind("v1", "services", "Service")
LEASE: Final = Kind("coordination.k8s.io/v1", "leases", "Lease")
EVENT: Final = Kind("events.k8s.io/v1", "events", "Event")
AUTOSCALER: Final = Kind("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
DISRUPTION_BUDGET: Final = Kind("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
SERVICE_MONITOR: Final = Kind("monitoring.coreos.com/v1", "servicemonitors", "ServiceMonitor")
KINDS: Final = {
    k.kind: k
    for k in (SERVED_MODEL, DEPLOYMENT, POD, SERVICE, LEASE, EVENT, AUTOSCALER, DISRUPTION_BUDGET, SERVICE_MONITOR)
}


class Api:
    """on_request: told verb, plural and status code of every answer, 0 for none."""

    def __init__(self, client: ApiClient, on_request: Callable[[str, str, int], None]) -> None:
        self._client = client
        self._on_request = on_request

    async def close(self) -> None:
        await self._client.rest_client.close()

    async def list(self, kind: Kind, namespace: str, selector: str = "") -> tuple[list[Object], str]:
        """Every object and the version to watch from. Pages, so that one answer stays small."""
        items: list[Object] = []
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = await self._call("LIST", kind, namespace, query=query)
            items += page.get("items") or []
            rest = page["metadata"].get("continue")
            if not rest:
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = rest

    async def watch(
        self, kind: Kind, namespace: str, version: str, selector: str = "", *, timeout_s: float, silence_s: float
    ) -> AsyncIterator[Object]:
        """Events from a version on, as {"type", "object"}, until the server ends it after timeout_s. Raises
        KubernetesUnavailable after silence_s without a byte: the other end of a half-open connection says nothing."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, round(timeout_s))),
        } | ({"labelSelector": selector} if selector else {})
        timeout = aiohttp.ClientTimeout(total=timeout_s + silence_s, sock_connect=5.0, sock_read=silence_s)
        try:
            response = await self._send("WATCH", kind, _path(kind, namespace), query=query, timeout=timeout)
            try:
                async for line in response.content:
                    if line.strip():
                        yield msgspec.json.decode(line)
            finally:
                response.close()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, msgspec.DecodeError) as error:
            raise KubernetesUnavailable(f"watch of {kind.plural}: {error or type(error).__name__}") from error

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        return await self._call("GET", kind, namespace, name)

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        return await self._call("POST", kind, namespace, body=body, query={"fieldManager": MANAGER})

    async def replace(self, kind: Kind, namespace: str, body: Object) -> Object:
        """With metadata.resourceVersion this is a compare-and-swap; KubernetesError 409 when it is another."""
        name = body["metadata"]["name"]
        return await self._call("PUT", kind, namespace, name, body=body, query={"fieldManager": MANAGER})

    async def apply(
        self, kind: Kind, namespace: str, body: Object, *, subresource: str = "", manager: str = MANAGER
    ) -> Object:
        """Server-side apply: what body says is ours from now on, what it does not say any more is not."""
        return await self._call(
            "APPLY",
            kind,
            namespace,
            body["metadata"]["name"],
            body=body,
            query={"fieldManager": manager, "force": "true"},
            subresource=subresource,
            content=_APPLY,
        )

    async def merge(self, kind: Kind, namespace: str, name: str, change: Object) -> Object:
        return await self._call(
            "PATCH", kind, namespace, name, body=change, query={"fieldManager": MANAGER}, content=_MERGE
        )

    async def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Quiet when it is gone already."""
        try:
            await self._call("DELETE", kind, namespace, name, query={"propagationPolicy": "Background"})
        except KubernetesError as error:
            if error.status != 404:
                raise

    async def _call(
        self,
        verb: str,
        kind: Kind,
        namespace: str,
        name: str = "",
        *,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        subresource: str = "",
        content: str = "application/json",
    ) -> Object:
        path = _path(kind, namespace, name, subresource)
        return await self._read(verb, kind, path, query=query, body=body, content=content)

    async def _read(
        self,
        verb: str,
        kind: Kind,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        content: str = "application/json",
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S, sock_connect=5.0)
        try:
            response = await self._send(verb, kind, path, query=query, body=body, content=content, timeout=timeout)
            try:
                answer: Object = msgspec.json.decode(await response.read())
            finally:
                response.release()
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise KubernetesUnavailable(f"{verb} {path}: {error or type(error).__name__}") from error
        return answer

    async def _send(
        self,
        verb: str,
        kind: Kind,
        path: str,
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own, which bounds silence too
        query: dict[str, str] | None = None,
        body: Object | None = None,
        content: str = "application/json",
    ) -> aiohttp.ClientResponse:
        """The response of a request that was not refused. Raises KubernetesError when it was."""
        method = {"LIST": "GET", "WATCH": "GET", "APPLY": "PATCH"}.get(verb, verb)
        headers = {"Accept": "application/json", "Content-Type": content}
        parameters = list((query or {}).items())
        auth = await self._client.configuration.auth_settings()
        method, url, headers, data, _ = await self._client.param_serialize(
            method, path, {}, parameters, headers, body, auth_settings=list(auth)
        )
        try:
            answer = await self._client.call_api(method, url, headers, data, _request_timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError):
            self._on_request(verb, kind.plural, 0)
            raise
        response: aiohttp.ClientResponse = answer.response
        self._on_request(verb, kind.plural, response.status)
        if response.status >= 400:
            try:
                raise _refusal(response.status, await response.read())
            finally:
                response.release()
        return response


async def connect(kubeconfig: Path | None, on_request: Callable[[str, str, int], None]) -> Api:
    """A client of the cluster a kubeconfig names, or of the one this pod runs in. Raises BadSettings."""
    settings = Configuration()
    settings.retries = None  # who calls knows whether and when to try again; False would be taken for a number
    try:
        if kubeconfig is not None:
            await kubernetes_config.load_kube_config(str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            kubernetes_config.load_incluster_config(settings)  # type: ignore[no-untyped-call]
        return Api(ApiClient(settings), on_request)
    except (kubernetes_config.ConfigException, OSError, ssl.SSLError, asyncio.InvalidStateError) as error:
        raise BadSettings(f"no way to the Kubernetes API: {error}") from error


def _path(kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
    parts = [kind.root, "namespaces", quote(namespace), kind.plural]
    parts += [quote(name)] if name else []
    parts += [subresource] if subresource else []
    return "/".join(parts)


def _refusal(status: int, raw: bytes) -> KubernetesError:
    try:
        told = msgspec.json.decode(raw)
        reason, message = str(told.get("reason") or ""), str(told.get("message") or "")
    except (msgspec.DecodeError, AttributeError):
        reason, message = "", raw[:300].decode(errors="replace")
    return KubernetesError(status, reason, message or f"status {status}")
