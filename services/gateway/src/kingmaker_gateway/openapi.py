"""The words of /docs: parameters, schemas and examples of every route. Documentation only; nothing here is executed
per request, because bodies are decoded by msgspec against the model's own signature."""

from collections.abc import Callable
from typing import Any, Final

from kingmaker_contracts.feedback import MAX_LABELS

DESCRIPTION: Final = """
Predictions from a champion model, with challengers sharing the same live traffic.

Every prediction carries `x-prediction-id` (row i is `<id>.<i>`), `x-variant`, `x-model-version` and
`x-route-reason` (`weight`, `sticky`, `override`, `fallback` or `ineligible`). Errors are
`{"error": "...", "code": "..."}`; 429 and 503 carry `Retry-After`.
"""

Json = dict[str, Any]


def _string(text: str, **more: Any) -> Json:
    return {"type": "string", "description": text, **more}


def _object(required: list[str], **properties: Json) -> Json:
    return {"type": "object", "required": required, "properties": properties}


def _parameters(text: str) -> Json:
    """OIP's, of a request, an input or an output."""
    return {"type": ["object", "null"], "description": text}


def _content(schema: Json, example: Any, media: str = "application/json") -> Json:
    return {media: {"schema": schema, "example": example}}


def _parameter(name: str, where: str, text: str, schema: Json | None = None) -> Json:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": text,
        "schema": schema or {"type": "string"},
    }


_ERROR: Final = _object(["error", "code"], error=_string("What is wrong, for people."), code=_string("For programs."))
_TENSOR: Final = _object(
    ["name", "shape", "datatype"],
    name=_string("Name of the input or output."),
    shape={"type": "array", "items": {"type": "integer", "minimum": 0}, "description": "Rows come first."},
    datatype=_string("OIP V2 datatype, for example FP32, INT64 or BYTES (strings)."),
    data={"type": "array", "items": {}, "description": "Nested or flat, row-major. null is a missing value."},
    parameters=_parameters("binary_data_size, or binary_data for a requested output."),
)
_TENSOR_SPEC: Final = _object(
    ["name", "datatype", "shape"],
    name={"type": "string"},
    datatype={"type": "string"},
    shape={"type": "array", "items": {"type": "integer"}},
)
_MODEL: Final = _parameter("model", "path", "Name of the ServedModel.")
_VARIANT: Final = _parameter("variant", "path", "Name of one variant; predictions need overrides: Allowed.")
_PREDICT_HEADERS: Final = [
    _parameter("x-kingmaker-variant", "header", "Ask one variant; needs overrides: Allowed."),
    _parameter("x-kingmaker-timeout-ms", "header", "Shorten the deadline.", {"type": "integer", "minimum": 1}),
]
_ANSWER_HEADERS: Final = {
    name: {"schema": {"type": "string"}, "description": text}
    for name, text in {
        "x-prediction-id": "UUIDv7; feedback refers to it.",
        "x-variant": "Who answered.",
        "x-model-version": "Its registry version.",
        "x-route-reason": "weight, sticky, override, fallback or ineligible.",
    }.items()
}
_PROBLEMS: Final = {
    400: ("bad_input", "unknown input 'distnace'; known inputs: 'distance', 'carrier'"),
    401: ("unauthorized", "no token was sent; expected the header Authorization: Bearer <token>"),
    403: ("override_denied", "model 'flights' does not allow clients to choose a variant (overrides)"),
    404: ("model_not_found", "no model 'fligths' is served here; GET /v2/models lists them"),
    408: ("request_timeout", "the body did not arrive within 10 s"),
    413: ("body_too_large", "the body is larger than 4194304 bytes"),
    429: ("too_many_requests", "512 requests are in flight at model 'flights', no more are taken"),
    501: ("not_supported", "V1 rows for input 'image' of shape [-1, 28, 28] are not supported yet; send V2 tensors"),
    503: ("not_ready", "model 'flights' is not ready: its champion is not loaded yet"),
    504: ("deadline_exceeded", "no answer within 1000 ms"),
}


def _errors(*statuses: int) -> Json:
    return {
        str(status): {
            "description": _PROBLEMS[status][0],
            "content": _content(_ERROR, {"error": _PROBLEMS[status][1], "code": _PROBLEMS[status][0]}),
        }
        for status in statuses
    }


def _answer(text: str, schema: Json, example: Any, status: int = 200, headers: Json | None = None) -> Json:
    answer: Json = {"description": text, "content": _content(schema, example)}
    if headers:
        answer["headers"] = headers
    return {str(status): answer}


def _path(versioned: bool) -> list[Json]:
    return [_MODEL, _VARIANT] if versioned else [_MODEL]


LIVE: Final[Json] = {"responses": _answer("It runs.", _object(["live"], live={"type": "boolean"}), {"live": True})}
READY: Final[Json] = {
    "responses": _answer("A model can answer.", _object(["ready"], ready={"type": "boolean"}), {"ready": True})
    | _answer("No model can answer yet.", _object(["ready"], ready={"type": "boolean"}), {"ready": False}, 503)
}
SERVER: Final[Json] = {
    "responses": _answer(
        "Server metadata.",
        _object(
            ["name", "version", "extensions"],
            name={"type": "string"},
            version={"type": "string"},
            extensions={"type": "array", "items": {"type": "string"}},
        ),
        {"name": "kingmaker-gateway", "version": "0.1.0", "extensions": ["binary_tensor_data"]},
    )
}
LIST: Final[Json] = {
    "responses": _answer(
        "Names of the models served here.",
        _object(["models"], models={"type": "array", "items": {"type": "string"}}),
        {"models": ["flights"]},
    )
}


def model_ready(versioned: bool) -> Json:
    schema = _object(["name", "ready"], name={"type": "string"}, ready={"type": "boolean"})
    return {
        "parameters": _path(versioned),
        "responses": _answer("It can answer.", schema, {"name": "flights", "ready": True})
        | _answer("It cannot answer yet.", schema, {"name": "flights", "ready": False}, 503)
        | _errors(404),
    }


def metadata(versioned: bool) -> Json:
    schema = _object(
        ["name", "platform", "inputs", "outputs"],
        name={"type": "string"},
        versions={"type": "array", "items": {"type": "string"}, "description": "Names of the variants."},
        platform={"type": "string"},
        inputs={"type": "array", "items": _TENSOR_SPEC},
        outputs={"type": "array", "items": _TENSOR_SPEC},
        properties={"type": "object", "additionalProperties": {"type": "string"}},
    )
    example = {
        "name": "flights",
        "versions": ["lr", "gbm"],
        "platform": "kingmaker",
        "inputs": [{"name": "distance", "datatype": "FP32", "shape": [-1, 1]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}],
        "properties": {"variant": "lr", "model_version": "3", "role": "champion"},
    }
    return {
        "parameters": _path(versioned),
        "responses": _answer("What the model takes and gives.", schema, example) | _errors(404, 503),
    }


def infer(versioned: bool) -> Json:
    request = _object(
        ["inputs"],
        id=_string("Echoed; without it the answer's id is the prediction id."),
        parameters=_parameters("timeout: microseconds; binary_data_output: true or false."),
        inputs={"type": "array", "items": _TENSOR},
        outputs={"type": "array", "items": _object(["name"], name={"type": "string"}), "description": "Default: all."},
    )
    answer = _object(
        ["model_name", "id", "outputs"],
        model_name={"type": "string"},
        model_version=_string("Registry version of the variant that answered."),
        id={"type": "string"},
        outputs={"type": "array", "items": _TENSOR},
    )
    asked = {"inputs": [{"name": "distance", "shape": [2, 1], "datatype": "FP32", "data": [1400, 187]}]}
    given = {
        "model_name": "flights",
        "model_version": "3",
        "id": "019a5f0e-8a51-7c3e-9d21-5b1f0c6e2a00",
        "outputs": [{"name": "label", "shape": [2], "datatype": "INT64", "data": [0, 1]}],
    }
    body = _content(request, asked)
    body["application/octet-stream"] = {
        "schema": _string("JSON part, then raw tensors; a header tells its length.", format="binary")
    }
    return {
        "parameters": [
            *_path(versioned),
            *_PREDICT_HEADERS,
            _parameter("inference-header-content-length", "header", "Length of the JSON part of a binary body."),
        ],
        "requestBody": {"required": True, "content": body},
        "responses": _answer("Outputs, row for row.", answer, given, headers=_ANSWER_HEADERS)
        | _errors(400, 403, 404, 408, 413, 429, 503, 504),
    }


def predict() -> Json:
    rows = {
        "type": "array",
        "minItems": 1,
        "items": {},
        "description": "A row is a list in the champion's input order, an object of named features, or a single value.",
    }
    request = {"type": "object", "properties": {"instances": rows, "inputs": rows}}
    answer = _object(
        ["predictions"],
        predictions={
            "type": "array",
            "items": {},
            "description": "Plain values for one output, objects for several.",
        },
    )
    return {
        "parameters": [_MODEL, *_PREDICT_HEADERS],
        "requestBody": {
            "required": True,
            "content": _content(request, {"instances": [{"distance": 1400, "carrier": "UA"}]}),
        },
        "responses": _answer(
            "One prediction a row.",
            answer,
            {"predictions": [{"label": 0, "probabilities": [0.83, 0.17]}]},
            headers=_ANSWER_HEADERS,
        )
        | _errors(400, 403, 404, 408, 413, 429, 501, 503, 504),
    }


def feedback() -> Json:
    label = _object(
        ["prediction_id", "label"],
        prediction_id=_string("`<id>.<row>`, or `<id>` for the only row of a request."),
        label={"oneOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]},
        observed_at=_string("RFC 3339 with an offset: when the truth was known.", format="date-time"),
        source=_string("Who says so."),
    )
    example = [
        {"prediction_id": "019a5f0e-8a51-7c3e-9d21-5b1f0c6e2a00.0", "label": 1, "observed_at": "2026-01-31T12:00:00Z"}
    ]
    body = _content({"type": "array", "items": label, "minItems": 1, "maxItems": MAX_LABELS}, example)
    body["application/x-ndjson"] = {"schema": _string("One label a line.")}
    unavailable = {
        "503": {
            "description": "feedback_unavailable",
            "content": _content(
                _ERROR,
                {"error": "the labels could not be stored just now; send them again", "code": "feedback_unavailable"},
            ),
        }
    }
    return {
        "parameters": [_MODEL],
        "requestBody": {"required": True, "content": body},
        "responses": _answer(
            "Redis has them.", _object(["accepted"], accepted={"type": "integer"}), {"accepted": 1}, status=202
        )
        | _errors(400, 404, 408, 413, 429)
        | unavailable,
    }


def guarded(docs: Json) -> Json:
    """The same for a call that needs a token."""
    return {**docs, "security": [{"token": []}], "responses": docs["responses"] | _errors(401)}


def with_tokens(plain: Callable[[], Json]) -> Callable[[], Json]:
    """A document in which /docs can ask for the token that `guarded` calls need."""

    def document() -> Json:
        made = plain()
        scheme = {"type": "http", "scheme": "bearer", "description": "A token the gateway's operator gave you."}
        made.setdefault("components", {})["securitySchemes"] = {"token": scheme}
        return made

    return document
