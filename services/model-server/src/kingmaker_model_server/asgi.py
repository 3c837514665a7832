"""Between FastAPI's requests and answers and the bytes of the prediction core: for every router alike."""

from typing import Any

import msgspec
from fastapi import Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kingmaker_model_server.answers import Answer


def headers_of(request: Request) -> dict[bytes, bytes]:
    """The first value of every header, as on the hot path."""
    return dict(reversed(request.scope["headers"]))


async def body_of(request: Request, limit: int) -> bytes | None:
    """The whole body, None as soon as it is known to exceed limit. Raises HTTPException when the client left."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        return None
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                return None
            parts.append(part)
    except ClientDisconnect:
        raise HTTPException(400, "the client left before its body was complete") from None
    return b"".join(parts)


def response(answer: Answer) -> Response:
    """An answer of the core."""
    whole = Response(answer.body, answer.status)
    whole.raw_headers += answer.headers
    return whole


def json_response(body: Any) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(body), media_type="application/json")
