"""What clients may ask without sending anything: health, metadata, and which models there are. No token is needed."""

from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from kingmaker_contracts.inference import BINARY_EXTENSION, ModelMetadata, TensorSpec
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway import openapi
from kingmaker_gateway.answers import unknown_model, unknown_variant
from kingmaker_gateway.asgi import add, json_answer
from kingmaker_gateway.models import LiveModel, Models
from kingmaker_gateway.split import CHAMPION

_VERBS: Final = (":predict", ":explain")


def add_reads(app: FastAPI, models: Models, version: str) -> None:
    reads = _Reads(models, version)
    add(app, ("GET", "/v2/health/live"), reads.live, tag="health", summary="Is it running", docs=openapi.LIVE)
    add(app, ("GET", "/v2/health/ready"), reads.ready, tag="health", summary="Can any model answer", docs=openapi.READY)
    add(app, ("GET", "/v2"), reads.server, tag="metadata", summary="Server metadata", docs=openapi.SERVER)
    app.add_route("/v2/", reads.server, methods=["GET"], include_in_schema=False)
    # KServe's clients ask it for liveness in V1
    app.add_route("/", reads.root, methods=["GET"], include_in_schema=False)
    app.add_route("/v1/models/{model}:explain", reads.explain, methods=["POST"], include_in_schema=False)
    add(app, ("GET", "/v2/models"), reads.names, tag="metadata", summary="List models (V2)", docs=openapi.LIST)
    add(app, ("GET", "/v1/models"), reads.names, tag="metadata", summary="List models (V1)", docs=openapi.LIST)
    docs = openapi.model_ready(False)
    add(app, ("GET", "/v1/models/{model}"), reads.v1_ready, tag="health", summary="Model ready (V1)", docs=docs)
    for path, versioned in (("/v2/models/{model}", False), ("/v2/models/{model}/versions/{variant}", True)):
        docs = openapi.metadata(versioned)
        add(app, ("GET", path), reads.metadata, tag="metadata", summary="Model metadata", docs=docs)
        docs = openapi.model_ready(versioned)
        add(app, ("GET", f"{path}/ready"), reads.model_ready, tag="health", summary="Model ready (V2)", docs=docs)


class _Reads:
    """Handlers have no docstrings: FastAPI would show them to clients."""

    def __init__(self, models: Models, version: str) -> None:
        self._models = models
        self._version = version

    async def live(self, _: Request) -> Response:
        return json_answer({"live": True})

    async def ready(self, _: Request) -> Response:
        is_ready = self._models.is_ready
        return json_answer({"ready": is_ready}, 200 if is_ready else 503)

    async def server(self, _: Request) -> Response:
        return json_answer({"name": "kingmaker-gateway", "version": self._version, "extensions": [BINARY_EXTENSION]})

    async def root(self, _: Request) -> Response:
        return json_answer({"status": "alive"})

    async def names(self, _: Request) -> Response:
        return json_answer({"models": self._models.names})

    async def model_ready(self, request: Request) -> Response:
        model, index = self._target(request)
        is_ready = model.state.is_ready if index is None else model.state.takes_requests(index)
        return json_answer({"name": model.name, "ready": is_ready}, 200 if is_ready else 503)

    async def v1_ready(self, request: Request) -> Response:
        if request.path_params["model"].endswith(_VERBS):
            raise HTTPException(405, "Method Not Allowed")
        return await self.model_ready(request)

    async def explain(self, request: Request) -> Response:
        model_of(self._models, request)
        raise Problem(Code.NOT_SUPPORTED, "explanations are not supported yet")

    async def metadata(self, request: Request) -> Response:
        model, index = self._target(request)
        return json_answer(_metadata(model, CHAMPION if index is None else index))

    def _target(self, request: Request) -> tuple[LiveModel, int | None]:
        """The model of the path, and the index of the variant it names."""
        model = model_of(self._models, request)
        variant = request.path_params.get("variant")
        if variant is None:
            return model, None
        if variant not in model.state.table.variants:
            raise unknown_variant(model.name, variant, model.state.table.variants)
        return model, model.state.table.variants.index(variant)


def model_of(models: Models, request: Request) -> LiveModel:
    """The model of the path. Raises Problem."""
    name = request.path_params["model"]
    model = models.get(name)
    if model is None:
        raise unknown_model(name)
    return model


def _metadata(model: LiveModel, index: int) -> ModelMetadata:
    state = model.state
    signature = state.signatures[index]
    if signature is None:
        raise Problem(Code.NOT_READY, f"variant {state.table.variants[index]!r} of model {model.name!r} is not ready")
    by = state.answerers[index]
    return ModelMetadata(
        name=model.name,
        platform="kingmaker",
        inputs=[TensorSpec(s.name, s.datatype, [-1, *s.tail]) for s in signature.inputs.values()],
        outputs=list(signature.outputs.values()),
        versions=list(state.table.variants),
        properties={"variant": by.variant, "model_version": by.version, "role": by.role, "mode": state.record.mode},
    )
