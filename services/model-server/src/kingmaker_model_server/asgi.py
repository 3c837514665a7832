"""Between FastAPI's requests and answers and the bytes of the prediction core: for every router alike."""

import asyncio
from typing import Any, Final

import msgspec
from fastapi import Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kingmaker_model_server.answers import Answer
from kingmaker_model_server.predict import Predictor

BODY_READ_S: Final = 10.0
"""As on the hot path."""


def headers_of(request: Request) -> dict[bytes, bytes]:
    """The first value of every header, as on the hot path."""
    return dict(reversed(request.scope["headers"]))


async def body_of(request: Request, predictor: Predictor) -> bytes | Response:
    """The whole body; or the answer to one that is larger than allowed, as soon as that is known, or that does not come
    in time. Raises HTTPException when the client left."""
    limit = predictor.max_body_bytes
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        return response(predictor.too_large())
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_READ_S):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    return response(predictor.too_large())
                parts.append(part)
    except ClientDisconnect:
        raise HTTPException(400, "the client left before its body was complete") from None
    except TimeoutError:
        late = response(predictor.refused(408))
        late.headers["connection"] = "close"  # no other request can come behind half a body
        return late
    return b"".join(parts)


def response(answer: Answer) -> Response:
    """An answer of the core."""
    whole = Response(answer.body, answer.status)
    whole.raw_headers += answer.headers
    return whole


def json_response(body: Any) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(body), media_type="application/json")
