"""Answers that are bytes already, and routes with their place in the documentation: all that is asked of FastAPI."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from kingmaker_gateway import openapi
from kingmaker_gateway.answers import JSON, Answer

Handler = Callable[[Request], Awaitable[Response]]


class Raw(Response):
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


def json_answer(value: Any, status: int = 200) -> Response:
    return Raw(Answer(status, (JSON,), msgspec.json.encode(value)))


def add(
    app: FastAPI,
    route: tuple[str, str],
    handler: Handler,
    *,
    tag: str,
    summary: str,
    docs: dict[str, Any],
    is_guarded: bool = False,
) -> None:
    """route: method and path; is_guarded: callers need a token, which the documentation says."""
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
        openapi_extra=openapi.guarded(docs) if is_guarded else docs,
    )
