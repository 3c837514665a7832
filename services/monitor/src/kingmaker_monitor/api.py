"""The monitor's REST API: evidence as it stands, for people, dashboards and the command line. It takes no actions."""

from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi_offline import FastAPIOffline
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from kingmaker_contracts.problems import Code, Problem, body
from kingmaker_contracts.report import ModelReport
from kingmaker_monitor.snapshot import Board

_JSON = "application/json"


class ModelEntry(msgspec.Struct, frozen=True):
    """One followed model. rollout_id and as_of are null while it has no plan."""

    name: str
    rollout_id: str | None
    as_of: str | None
    variants: list[str]


class ModelList(msgspec.Struct, frozen=True):
    """Body of `GET /api/models`."""

    models: list[ModelEntry]


class ProblemBody(msgspec.Struct, frozen=True):
    """Body of every error answer."""

    error: str
    code: str


def build(board: Board, metrics: Starlette) -> FastAPI:
    """The app. metrics: serves /metrics and /health/*, on the same port."""
    app = FastAPIOffline(
        title="Kingmaker monitor",
        description="What the monitor measured: counts, latency, drift, quality and agreement of every variant.",
        version="1",
        redoc_url=None,
    )
    schemas, components = msgspec.json.schema_components(
        [ModelList, ModelReport, ProblemBody], ref_template="#/components/schemas/{name}"
    )
    listed, found, problem = ({"content": {_JSON: {"schema": schema}}} for schema in schemas)
    missing = {"description": "No such model, or nothing is planned for it yet.", **problem}

    @app.get("/api/models", summary="The models that are followed", responses={200: listed}, response_class=Response)
    async def models() -> Response:
        entries = [
            ModelEntry(name, view.evidence.rollout_id, view.evidence.as_of, list(view.evidence.variants))
            if view.evidence is not None
            else ModelEntry(name, None, None, [])
            for name, view in board.snapshot.models.items()
        ]
        return Response(msgspec.json.encode(ModelList(entries)), media_type=_JSON)

    @app.get(
        "/api/models/{model}",
        summary="One model: evidence, windows, drift, segments and the health of the pipeline",
        responses={200: found, 404: missing},
        response_class=Response,
    )
    async def model(model: str) -> Response:
        view = board.snapshot.models.get(model)
        if view is None:
            raise Problem(
                Code.MODEL_NOT_FOUND, f"model {model!r} is not followed; GET /api/models lists those that are"
            )
        if view.evidence is None:
            raise Problem(Code.MODEL_NOT_FOUND, f"model {model!r} has no plan yet, so there is nothing to measure")
        return Response(msgspec.json.encode(view.report), media_type=_JSON)

    _answer_problems(app)
    _declare(app, components)
    app.router.routes.extend(metrics.routes)
    return app


def _answer_problems(app: FastAPI) -> None:
    """Every error has the body `{"error", "code"}`."""

    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - registered for Problem alone
        return Response(body(error.code, error.message), error.status, media_type=_JSON)

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for HTTPException alone
        code = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED}.get(error.status_code, Code.BAD_INPUT)
        return Response(body(code, str(error.detail)), error.status_code, media_type=_JSON, headers=error.headers)

    async def invalid(_: Request, error: Exception) -> Response:
        return Response(body(Code.BAD_INPUT, str(error)), 400, media_type=_JSON)

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)


def _declare(app: FastAPI, components: dict[str, Any]) -> None:
    """Put the evidence schema into the OpenAPI document: our records are msgspec's, which FastAPI does not read."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        document.setdefault("components", {}).setdefault("schemas", {}).update(components)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
