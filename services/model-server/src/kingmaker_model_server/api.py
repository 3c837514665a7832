"""The HTTP surface: health, metadata, docs, and thin routes around the prediction core.

FastAPI parses no body here. Infer and predict read the raw bytes within the size limit and hand them to
`predict.Predictor`, as `hot_path` does before a request even gets here. These routes document both calls, and
answer what the hot path leaves to them: paths spelled in another way, and everything when it is switched off.
"""

from importlib import metadata
from typing import Any, Final

import msgspec
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from kingmaker_contracts import problems
from kingmaker_contracts.deadlines import TIMEOUT_HEADER, timeout_s
from kingmaker_contracts.inference import BINARY_EXTENSION
from kingmaker_contracts.problems import Code, Problem
from kingmaker_model_server import asgi, openapi
from kingmaker_model_server.predict import Predictor, error

_SERVER: Final = "kingmaker-model-server"
_VERBS: Final = (":predict", ":explain")
_CODES: Final = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED}


def add_error_handlers(app: FastAPI) -> None:
    """Give FastAPI's own refusals (no such path, wrong method) the body every error has."""

    async def refused(request: Request, fault: Exception) -> Response:
        if isinstance(fault, Problem):
            return asgi.response(error(fault))
        assert isinstance(fault, HTTPException)  # noqa: S101 - registered for these two kinds alone
        code = _CODES.get(fault.status_code, Code.BAD_INPUT)
        text = f"{request.method} {request.url.path}: {fault.detail}"
        return Response(problems.body(code, text), fault.status_code, fault.headers, "application/json")

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(Problem, refused)


def router(predictor: Predictor) -> APIRouter:
    """The routes of the Open Inference Protocol V2 and of V1."""
    routes = APIRouter()
    _add_health(routes, predictor)
    _add_metadata(routes, predictor)
    _add_predictions(routes, predictor)
    return routes


def package_router(predictor: Predictor) -> APIRouter:
    """What the controller asks: on Kubernetes only a pod has the package, and Redis shall have its profile.

    It gets what was read with the model: the files may be others by now.
    """
    routes = APIRouter()

    @routes.get("/kingmaker/profile", include_in_schema=False)
    async def profile() -> Response:
        raw = predictor.find(predictor.name).profile
        if raw is None:
            raise HTTPException(404, "this package has no profile")
        return Response(raw, media_type="application/json")

    return routes


def _add_health(routes: APIRouter, predictor: Predictor) -> None:
    @routes.get("/v2/health/live", tags=["health"], summary="The process runs")
    async def live() -> Response:
        return asgi.json_response({"live": True})

    @routes.get("/v2/health/ready", tags=["health"], summary="The model is loaded and warmed up")
    async def ready() -> Response:
        return _readiness({"ready": predictor.loaded is not None})

    @routes.get("/v2/models/{model}/ready", tags=["health"], responses=_errors(404), summary="The model is ready")
    async def model_ready(model: str) -> Response:
        return _model_readiness(predictor, model)

    @routes.get(
        "/v2/models/{model}/versions/{version}/ready",
        tags=["health"],
        responses=_errors(404),
        summary="The version is ready",
    )
    async def version_ready(model: str, version: str) -> Response:
        return _model_readiness(predictor, model, version)

    @routes.get("/v1/models/{model}", tags=["V1"], responses=_errors(404), summary="The model is ready")
    async def v1_ready(model: str) -> Response:
        if model.endswith(_VERBS):
            raise HTTPException(405, "Method Not Allowed", {"Allow": "POST"})
        return _model_readiness(predictor, model)

    @routes.get("/", include_in_schema=False)
    async def root() -> Response:  # KServe's clients ask it for liveness in V1
        return asgi.json_response({"status": "alive"})


def _add_metadata(routes: APIRouter, predictor: Predictor) -> None:
    server = {"name": _SERVER, "version": metadata.version(_SERVER), "extensions": [BINARY_EXTENSION]}

    @routes.get("/v2/", include_in_schema=False)
    @routes.get("/v2", tags=["metadata"], summary="The server and its extensions")
    async def server_metadata() -> Response:
        return asgi.json_response(server)

    @routes.get("/v1/models", tags=["V1"], summary="The model's name")
    @routes.get("/v2/models", tags=["metadata"], summary="The model's name")
    async def models() -> Response:
        return asgi.json_response({"models": [predictor.name]})

    @routes.get("/v2/models/{model}", tags=["metadata"], responses=_errors(404, 503), summary="Inputs and outputs")
    async def model_metadata(model: str) -> Response:
        return asgi.json_response(predictor.find(model).metadata)

    @routes.get(
        "/v2/models/{model}/versions/{version}",
        tags=["metadata"],
        responses=_errors(404, 503),
        summary="Inputs and outputs of the version",
    )
    async def version_metadata(model: str, version: str) -> Response:
        return asgi.json_response(predictor.find(model, version).metadata)


def _add_predictions(routes: APIRouter, predictor: Predictor) -> None:
    async def infer_body(request: Request, model: str, version: str | None) -> Response:
        body = await asgi.body_of(request, predictor)
        if isinstance(body, Response):
            return body
        problem = _misread(request)
        if problem is not None:
            return asgi.response(predictor.misread(problem))
        return asgi.response(predictor.infer(model, version, asgi.headers_of(request), body))

    @routes.post("/v2/models/{model}/infer", tags=["predict"], openapi_extra=openapi.INFER, summary="Infer")
    async def infer(request: Request, model: str) -> Response:
        return await infer_body(request, model, None)

    @routes.post(
        "/v2/models/{model}/versions/{version}/infer",
        tags=["predict"],
        openapi_extra=openapi.INFER,
        summary="Infer with a version",
    )
    async def infer_version(request: Request, model: str, version: str) -> Response:
        return await infer_body(request, model, version)

    @routes.post("/v1/models/{model}:predict", tags=["V1"], openapi_extra=openapi.PREDICT, summary="Predict rows")
    async def predict(request: Request, model: str) -> Response:
        body = await asgi.body_of(request, predictor)
        if isinstance(body, Response):
            return body
        problem = _misread(request)
        if problem is not None:
            return asgi.response(predictor.misread(problem))
        return asgi.response(predictor.predict(model, body))

    @routes.post("/v1/models/{model}:explain", include_in_schema=False)
    async def explain(model: str) -> Response:
        predictor.find(model)
        raise Problem(Code.NOT_SUPPORTED, "explanations are not supported yet")


def _misread(request: Request) -> Problem | None:
    """What is wrong with the caller's patience. It is of no other use here, for these requests wait for nobody."""
    text = request.headers.get(TIMEOUT_HEADER)
    try:
        if text is not None:
            timeout_s(text)
    except Problem as problem:
        return problem
    return None


def _model_readiness(predictor: Predictor, model: str, version: str | None = None) -> Response:
    """Readiness of a path's model; 404 when it is not ours, 503 while it loads."""
    try:
        predictor.find(model, version)
    except Problem as problem:
        if problem.code is not Code.NOT_READY:
            raise
    return _readiness({"name": model, "ready": predictor.loaded is not None})


def _readiness(body: dict[str, Any]) -> Response:
    if body["ready"]:
        return asgi.json_response(body)
    return Response(msgspec.json.encode(body), 503, {"retry-after": "1"}, "application/json")


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {int(status): response for status, response in openapi.errors(*statuses).items()}
