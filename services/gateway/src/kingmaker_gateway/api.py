"""HTTP, thinly: raw body in, raw bytes out. FastAPI gives routing, /docs and the OpenAPI document; no request
passes through pydantic, and everything a prediction needs is in `router`, which `hot_path` calls too."""

from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Lifespan

from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway import feedback, openapi, protocols
from kingmaker_gateway.answers import Answer, problem_answer
from kingmaker_gateway.asgi import Handler, Raw, add, json_answer
from kingmaker_gateway.body_reader import BodyReader, Unread
from kingmaker_gateway.feedback import FeedbackWriter
from kingmaker_gateway.guard import Guard, Guards
from kingmaker_gateway.models import LiveModel, Models
from kingmaker_gateway.protocols import Language
from kingmaker_gateway.reads import add_reads, model_of
from kingmaker_gateway.router import Router
from kingmaker_gateway.wishes import Wish

_STATUS_CODE: Final = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED}


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
    _add_predictions(app, router, reader, guards.predict)
    add(
        app,
        ("POST", "/v1/models/{model}/feedback"),
        _feedback(router, models, writer, reader, guards.feedback),
        tag="feedback",
        summary="Send true labels",
        docs=openapi.feedback(),
        is_guarded=guards.feedback is not None,
    )
    add_reads(app, models, version)
    if guards != Guards():
        app.openapi = openapi.with_tokens(app.openapi)  # type: ignore[method-assign]
    return app


def _add_predictions(app: FastAPI, router: Router, reader: BodyReader, guard: Guard | None) -> None:
    v2, v1 = (_prediction(router, reader, language, guard) for language in (protocols.v2, protocols.v1))
    for path, handler, summary, docs in (
        ("/v2/models/{model}/infer", v2, "Predict (OIP V2)", openapi.infer(False)),
        ("/v2/models/{model}/versions/{variant}/infer", v2, "Predict (OIP V2)", openapi.infer(True)),
        ("/v1/models/{model}:predict", v1, "Predict (V1)", openapi.predict()),
    ):
        is_guarded = guard is not None
        add(app, ("POST", path), handler, tag="predictions", summary=summary, docs=docs, is_guarded=is_guarded)


def _prediction(router: Router, reader: BodyReader, language: Language, guard: Guard | None) -> Handler:
    async def handle(request: Request) -> Response:
        path = request.path_params
        model: LiveModel | None = None
        body: bytes | None = None
        try:
            _check(guard, request)
            model = router.admit(path["model"])
            body = await reader.read(request, model.state.record.limits.max_body_bytes)
        except Problem as problem:
            return Raw(_closing(router.refuse(problem, model), problem))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        finally:
            if model is not None and body is None:
                router.release(model)
        return Raw(await router.predict(model, Wish(path.get("variant"), _headers(request), language), body))

    return handle


def _feedback(
    router: Router, models: Models, writer: FeedbackWriter, reader: BodyReader, guard: Guard | None
) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            _check(guard, request)
        except Problem as problem:
            return Raw(router.refuse(problem))
        model = model_of(models, request)
        try:
            body = await reader.read(request, model.state.record.limits.max_body_bytes)
            labels = feedback.parse(body, request.headers.get("content-type", ""))
            await writer.write(model.name, labels)
        except Problem as problem:
            return Raw(_closing(problem_answer(problem, []), problem))
        except ClientDisconnect:
            return Response(status_code=400)
        return json_answer({"accepted": len(labels)}, 202)

    return handle


def _add_errors(app: FastAPI) -> None:
    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - registered for this type
        return Raw(problem_answer(error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
        code = _STATUS_CODE.get(error.status_code, Code.BAD_INPUT)
        return Raw(problem_answer(Problem(code, f"{request.method} {request.url.path[:200]}: {error.detail}")))

    async def internal(_: Request, __: Exception) -> Response:
        return Raw(problem_answer(Problem(Code.INTERNAL, "a mistake of the gateway; its log has the details")))

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, internal)


def _check(guard: Guard | None, request: Request) -> None:
    """Before the body is read. Raises Problem."""
    if guard is not None:
        header = request.headers.get("authorization")
        guard.check(None if header is None else header.encode("latin-1"))


def _headers(request: Request) -> dict[str, str]:
    """By lower-case name; of a repeated header the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(request.scope["headers"])}


def _closing(answer: Answer, problem: Problem) -> Answer:
    if not isinstance(problem, Unread):
        return answer
    return Answer(answer.status, [*answer.headers, (b"connection", b"close")], answer.body, answer.own)
