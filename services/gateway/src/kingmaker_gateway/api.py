"""HTTP, thinly: raw body in, raw bytes out. FastAPI gives routing, /docs and the OpenAPI document; no request
passes through pydantic, and everything a prediction needs is in `router`, which `hot_path` calls too."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Lifespan, Receive, Scope, Send

from kingmaker_contracts.inference import BINARY_EXTENSION, ModelMetadata, TensorSpec
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway import feedback, openapi, protocols
from kingmaker_gateway.answers import (
    JSON,
    Answer,
    problem_answer,
    unknown_model,
    unknown_variant,
)
from kingmaker_gateway.body_reader import BodyReader, Unread
from kingmaker_gateway.feedback import FeedbackWriter
from kingmaker_gateway.guard import Guard, Guards
from kingmaker_gateway.models import LiveModel, Models
from kingmaker_gateway.protocols import Reader
from kingmaker_gateway.router import Router
from kingmaker_gateway.split import CHAMPION

Handler = Callable[[Request], Awaitable[Response]]
_VERBS: Final = (":predict", ":explain")
_STATUS_CODE: Final = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED}


class _Raw(Response):
    """An answer that is already bytes."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(b"", answer.status)
        self.raw_headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
        if answer.own:
            name, _, value = answer.own.rstrip().partition(b": ")
            self.raw_headers.append((name, value))
        self.body = answer.body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def build(
    router: Router,
    models: Models,
    writer: FeedbackWriter,
    *,
    body_read_s: float,
    version: str,
    guards: Guards,
    lifespan: Lifespan[Any] | None = None,
) -> FastAPI:
    """The app clients call."""
    app = FastAPIOffline(
        title="Kingmaker gateway", version=version, description=openapi.DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    reader = BodyReader(body_read_s)
    _add_errors(app)
    # routes are tried in order: predictions come first
    for path, versioned in (("/v2/models/{model}", False), ("/v2/models/{model}/versions/{variant}", True)):
        handler = _prediction(router, reader, protocols.v2, guards.predict)
        _add(
            app,
            ("POST", f"{path}/infer"),
            handler,
            tag="predictions",
            summary="Predict (OIP V2)",
            docs=openapi.infer(versioned),
            guard=guards.predict,
        )
    handler = _prediction(router, reader, protocols.v1, guards.predict)
    _add(
        app,
        ("POST", "/v1/models/{model}:predict"),
        handler,
        tag="predictions",
        summary="Predict (V1)",
        docs=openapi.predict(),
        guard=guards.predict,
    )
    labels = _feedback(router, models, writer, reader, guards.feedback)
    _add(
        app,
        ("POST", "/v1/models/{model}/feedback"),
        labels,
        tag="feedback",
        summary="Send true labels",
        docs=openapi.feedback(),
        guard=guards.feedback,
    )
    _add_reads(app, models, version)
    if guards != Guards():
        app.openapi = openapi.with_tokens(app.openapi)  # type: ignore[method-assign]
    return app


def _prediction(router: Router, reader: BodyReader, read: Reader, guard: Guard | None) -> Handler:
    async def handle(request: Request) -> Response:
        path = request.path_params
        model: LiveModel | None = None
        body: bytes | None = None
        try:
            _check(guard, request)
            model = router.admit(path["model"])
            body = await reader.read(request, model.state.record.limits.max_body_bytes)
        except Problem as problem:
            return _Raw(_closing(router.refuse(problem, model), problem))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        finally:
            if model is not None and body is None:
                router.release(model)
        return _Raw(await router.predict(model, path.get("variant"), _headers(request), body, read))

    return handle


def _feedback(
    router: Router, models: Models, writer: FeedbackWriter, reader: BodyReader, guard: Guard | None
) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            _check(guard, request)
        except Problem as problem:
            return _Raw(router.refuse(problem))
        model = _known(models, request)
        try:
            body = await reader.read(request, model.state.record.limits.max_body_bytes)
            labels = feedback.parse(body, request.headers.get("content-type", ""))
            await writer.write(model.name, labels)
        except Problem as problem:
            return _Raw(_closing(problem_answer(problem, []), problem))
        except ClientDisconnect:
            return Response(status_code=400)
        return _json({"accepted": len(labels)}, 202)

    return handle


def _add_reads(app: FastAPI, models: Models, version: str) -> None:
    """Everything that is a GET: health, metadata, lists."""

    async def live(_: Request) -> Response:
        return _json({"live": True})

    async def ready(_: Request) -> Response:
        return _json({"ready": models.is_ready}, 200 if models.is_ready else 503)

    async def server(_: Request) -> Response:
        return _json({"name": "kingmaker-gateway", "version": version, "extensions": [BINARY_EXTENSION]})

    async def names(_: Request) -> Response:
        return _json({"models": models.names})

    async def model_ready(request: Request) -> Response:
        model, index = _target(models, request)
        is_ready = model.state.is_ready if index is None else model.state.takes_requests(index)
        return _json({"name": model.name, "ready": is_ready}, 200 if is_ready else 503)

    async def v1_ready(request: Request) -> Response:
        if request.path_params["model"].endswith(_VERBS):
            raise HTTPException(405, "Method Not Allowed")
        return await model_ready(request)

    async def explain(request: Request) -> Response:
        _known(models, request)
        raise Problem(Code.NOT_SUPPORTED, "explanations are not supported yet")

    async def root(_: Request) -> Response:
        return _json({"status": "alive"})

    async def metadata(request: Request) -> Response:
        model, index = _target(models, request)
        return _json(_metadata(model, CHAMPION if index is None else index))

    _add(app, ("GET", "/v2/health/live"), live, tag="health", summary="Is it running", docs=openapi.LIVE)
    _add(app, ("GET", "/v2/health/ready"), ready, tag="health", summary="Can any model answer", docs=openapi.READY)
    _add(app, ("GET", "/v2"), server, tag="metadata", summary="Server metadata", docs=openapi.SERVER)
    app.add_route("/v2/", server, methods=["GET"], include_in_schema=False)
    app.add_route("/", root, methods=["GET"], include_in_schema=False)  # KServe's clients ask it for liveness in V1
    app.add_route("/v1/models/{model}:explain", explain, methods=["POST"], include_in_schema=False)
    _add(app, ("GET", "/v2/models"), names, tag="metadata", summary="List models (V2)", docs=openapi.LIST)
    _add(app, ("GET", "/v1/models"), names, tag="metadata", summary="List models (V1)", docs=openapi.LIST)
    _add(
        app,
        ("GET", "/v1/models/{model}"),
        v1_ready,
        tag="health",
        summary="Model ready (V1)",
        docs=openapi.model_ready(False),
    )
    for path, versioned in (("/v2/models/{model}", False), ("/v2/models/{model}/versions/{variant}", True)):
        _add(app, ("GET", path), metadata, tag="metadata", summary="Model metadata", docs=openapi.metadata(versioned))
        _add(
            app,
            ("GET", f"{path}/ready"),
            model_ready,
            tag="health",
            summary="Model ready (V2)",
            docs=openapi.model_ready(versioned),
        )


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


def _known(models: Models, request: Request) -> LiveModel:
    name = request.path_params["model"]
    model = models.get(name)
    if model is None:
        raise unknown_model(name)
    return model


def _target(models: Models, request: Request) -> tuple[LiveModel, int | None]:
    """The model of the path, and the index of the variant it names."""
    model = _known(models, request)
    variant = request.path_params.get("variant")
    if variant is None:
        return model, None
    if variant not in model.state.table.variants:
        raise unknown_variant(model.name, variant, model.state.table.variants)
    return model, model.state.table.variants.index(variant)


def _add_errors(app: FastAPI) -> None:
    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - registered for this type
        return _Raw(problem_answer(error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
        code = _STATUS_CODE.get(error.status_code, Code.BAD_INPUT)
        return _Raw(problem_answer(Problem(code, f"{request.method} {request.url.path[:200]}: {error.detail}")))

    async def internal(_: Request, __: Exception) -> Response:
        return _Raw(problem_answer(Problem(Code.INTERNAL, "a mistake of the gateway; its log has the details")))

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, internal)


def _check(guard: Guard | None, request: Request) -> None:
    """Before the body is read. Raises Problem."""
    if guard is not None:
        header = request.headers.get("authorization")
        guard.check(None if header is None else header.encode("latin-1"))


def _add(
    app: FastAPI,
    route: tuple[str, str],
    handler: Handler,
    *,
    tag: str,
    summary: str,
    docs: dict[str, Any],
    guard: Guard | None = None,
) -> None:
    method, path = route
    app.add_api_route(
        path,
        handler,
        methods=[method],
        tags=[tag],
        summary=summary,
        operation_id=f"{method}_{path}".lower().translate(str.maketrans("/{}:", "____")),
        response_model=None,
        response_class=Response,
        openapi_extra=docs if guard is None else openapi.guarded(docs),
    )


def _headers(request: Request) -> dict[str, str]:
    """By lower-case name; of a repeated header the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(request.scope["headers"])}


def _json(value: Any, status: int = 200) -> Response:
    return _Raw(Answer(status, (JSON,), msgspec.json.encode(value)))


def _closing(answer: Answer, problem: Problem) -> Answer:
    if not isinstance(problem, Unread):
        return answer
    return Answer(answer.status, [*answer.headers, (b"connection", b"close")], answer.body, answer.own)
