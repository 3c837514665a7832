"""The second reader of status: what `kingmaker get` and scripts ask over HTTP. Reading only.

/api needs the bearer token; /metrics and /health do not, so that a Prometheus needs no secret.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kingmaker_contracts import keys, problems
from kingmaker_contracts.problems import Code, Problem
from kingmaker_contracts.served_model import Spec
from kingmaker_controller.loop import Loop
from kingmaker_controller.roster import Model, Records
from kingmaker_servicekit import metrics_endpoint


@dataclass(frozen=True, slots=True)
class View:
    """What there is to show."""

    loop: Loop
    records: Records


def build(
    view: Callable[[], View | None], token: str, registry: CollectorRegistry, is_ready: Callable[[], bool]
) -> Starlette:
    """The app. view: None while another controller leads; is_ready: for /health/ready."""
    models = _Models(view)

    def guarded(answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            _authorize(request, token)
            return Response(msgspec.json.encode(answer(request)), media_type="application/json")

        return endpoint

    routes = [
        Route("/api/models", guarded(models.all)),
        Route("/api/models/{model}", guarded(models.one)),
        Route("/api/models/{model}/audit", guarded(models.audit)),
        Route("/api/models/{namespace}/{model}", guarded(models.one)),
        Route("/api/models/{namespace}/{model}/audit", guarded(models.audit)),
        *metrics_endpoint.build(registry, is_ready).routes,
    ]
    return Starlette(routes=routes, exception_handlers={Problem: _problem, HTTPException: _http})


class _Models:
    def __init__(self, view: Callable[[], View | None]) -> None:
        self._view = view

    @property
    def _loop(self) -> Loop:
        return self._shown.loop

    @property
    def _shown(self) -> View:
        view = self._view()
        if view is None:
            raise Problem(Code.NOT_READY, "this controller waits in line; ask the one that leads")
        return view

    def all(self, _: Request) -> list[dict[str, Any]]:
        return [_shown(model, is_full=False) for _, model in sorted(self._loop.models.items())]

    def one(self, request: Request) -> dict[str, Any]:
        return _shown(self._find(request), is_full=True)

    def audit(self, request: Request) -> list[dict[str, str]]:
        """The newest decisions, oldest of them first."""
        text = request.query_params.get("limit", "200")
        if not text.isdecimal() or not 1 <= int(text) <= 1000:
            raise Problem(Code.BAD_INPUT, f"limit is {text!r}, expected 1 to 1000")
        entries = self._shown.records.audit(self._find(request).id, int(text))
        return [{"time": e.time, "reason": e.reason, "message": e.message} for e in reversed(entries)]

    def _find(self, request: Request) -> Model:
        """By namespace and name; by name alone in `default`, else where it is the only one."""
        name, namespace = request.path_params["model"], request.path_params.get("namespace")
        found = self._loop.models.get(keys.model_id(namespace or "default", name))
        if found is None and namespace is None:
            named = [m for m in self._loop.models.values() if keys.split_model_id(m.id)[1] == name]
            found = named[0] if len(named) == 1 else None
        if found is None:
            raise Problem(
                Code.MODEL_NOT_FOUND, f"no model {name!r}; there are: {', '.join(self._loop.models) or 'none'}"
            )
        return found


def _shown(model: Model, is_full: bool) -> dict[str, Any]:
    namespace, name = keys.split_model_id(model.id)
    spec = model.resource.spec if model.resource else None
    return {
        "namespace": namespace,
        "name": name,
        "mode": spec.mode if spec else "",
        "generation": model.stored.generation,
        "created_at": model.stored.created_at,
        "spec": None if spec is None else _full(spec) if is_full else _brief(spec),
        "status": model.stored.status,
    }


def _full(spec: Spec) -> dict[str, Any]:
    return spec.model_dump(mode="json", by_alias=True)


def _brief(spec: Spec) -> dict[str, Any]:
    return {
        "champion": spec.champion.name,
        "challengers": [challenger.name for challenger in spec.challengers],
        "weights": spec.weights,
        "paused": spec.paused,
    }


def _authorize(request: Request, token: str) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise Problem(Code.UNAUTHORIZED, "this needs the controller's token: Authorization: Bearer <token>")


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for this type alone
    headers = {"www-authenticate": "Bearer"} if error.code is Code.UNAUTHORIZED else None
    body = problems.body(error.code, error.message)
    return Response(body, error.status, headers, media_type="application/json")


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type alone
    code = Code.METHOD_NOT_ALLOWED if error.status_code == 405 else Code.NOT_FOUND
    body = problems.body(code, f"{request.method} {request.url.path}: {error.detail}")
    return Response(body, error.status_code, error.headers, media_type="application/json")
