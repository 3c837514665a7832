"""The paths other platforms ask: SageMaker's and MLflow's `/ping` and `/invocations`, and Vertex AI's own routes.

They end in the same core as `:predict`. Health here means ready: these platforms send requests to whatever answers 200.
"""

from importlib import metadata
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from kingmaker_contracts.problems import Code, Problem
from kingmaker_model_server import asgi, openapi
from kingmaker_model_server.predict import Predictor, error

INVOCATIONS: Final = "/invocations"


def router(predictor: Predictor, health_route: str | None, predict_route: str | None) -> APIRouter:
    """The routes; the two of Vertex AI when it named them."""
    routes = APIRouter(tags=["SageMaker, Vertex AI, MLflow"])

    async def ping() -> Response:
        if predictor.loaded is None:
            return asgi.response(error(Problem(Code.NOT_READY, f"model {predictor.name!r} is still loading")))
        return Response(status_code=200)

    async def invoke(request: Request) -> Response:
        body = await asgi.body_of(request, predictor)
        if isinstance(body, Response):
            return body
        return asgi.response(predictor.invoke(asgi.headers_of(request), body))

    async def version() -> Response:
        return Response(metadata.version("kingmaker-model-server"), media_type="text/plain")

    if health_route is not None:
        routes.get(health_route, include_in_schema=False)(ping)
    if predict_route is not None:
        routes.post(predict_route, include_in_schema=False)(invoke)
    said, bare = openapi.PING, Response  # without a class of its own the document would promise JSON
    routes.get("/ping", openapi_extra=said, response_class=bare, summary="The model is loaded and warmed up")(ping)
    routes.get("/health", openapi_extra=said, response_class=bare, summary="The same, MLflow's other name")(ping)
    routes.get("/version", openapi_extra=openapi.VERSION, response_class=bare, summary="The server's version")(version)
    routes.post(INVOCATIONS, openapi_extra=openapi.INVOKE, summary="Predict rows in other forms")(invoke)
    return routes
