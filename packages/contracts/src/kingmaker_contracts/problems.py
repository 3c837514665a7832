"""The error body of every HTTP answer, and the closed set of its codes.

`{"error": "<for people>", "code": "<for programs>"}`. Codes are part of the API: a client may
branch on them, so they are only ever added. Services raise `Problem` (or a family of their own)
and turn it into HTTP at the edge.
"""

from enum import StrEnum
from typing import Final

import msgspec


class Code(StrEnum):
    """What went wrong, in one word that never changes."""

    BAD_INPUT = "bad_input"
    MIXED_KEYS = "mixed_keys"
    OVERRIDE_DENIED = "override_denied"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    MODEL_NOT_FOUND = "model_not_found"
    VARIANT_NOT_FOUND = "variant_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    REQUEST_TIMEOUT = "request_timeout"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    TOO_MANY_REQUESTS = "too_many_requests"
    NOT_READY = "not_ready"
    UPSTREAM_FAILED = "upstream_failed"
    FEEDBACK_UNAVAILABLE = "feedback_unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_SUPPORTED = "not_supported"
    INTERNAL = "internal"


HTTP_STATUS: Final[dict[Code, int]] = {
    Code.BAD_INPUT: 400,
    Code.MIXED_KEYS: 400,
    Code.UNAUTHORIZED: 401,
    Code.OVERRIDE_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.MODEL_NOT_FOUND: 404,
    Code.VARIANT_NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.NOT_ACCEPTABLE: 406,
    Code.REQUEST_TIMEOUT: 408,
    Code.BODY_TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.TOO_MANY_REQUESTS: 429,
    Code.INTERNAL: 500,
    Code.NOT_SUPPORTED: 501,
    Code.NOT_READY: 503,
    Code.UPSTREAM_FAILED: 503,
    Code.FEEDBACK_UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}

RETRY_AFTER: Final = frozenset(
    {Code.TOO_MANY_REQUESTS, Code.NOT_READY, Code.UPSTREAM_FAILED, Code.FEEDBACK_UNAVAILABLE}
)
"""Codes whose answers carry `Retry-After: 1`: the same request may succeed shortly."""


class Problem(Exception):
    """An answer that is an error: a code for programs and a sentence for people."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        return HTTP_STATUS[self.code]


def body(code: Code, message: str) -> bytes:
    """The JSON body of an error answer."""
    return msgspec.json.encode({"error": message, "code": code.value})
