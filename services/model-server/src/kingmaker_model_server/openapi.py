"""What /docs says of the two routes whose bodies FastAPI never parses."""

from typing import Any, Final

from kingmaker_contracts.inference import DTYPES

_PARAMETERS: Final = {"type": ["object", "null"], "additionalProperties": {"type": ["string", "number", "boolean"]}}
_DATATYPE: Final = {
    "type": "string",
    "enum": list(DTYPES),
}
_TENSOR: Final = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": _DATATYPE,
        "parameters": {
            **_PARAMETERS,
            "description": "`binary_data_size`: bytes of this tensor behind the JSON part, instead of `data`",
        },
        "data": {
            "type": "array",
            "items": {},
            "description": "row-major, flat or nested; null is a missing value, where the model allows one",
        },
    },
}
_REQUEST: Final = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "description": "echoed; made up when absent"},
        "parameters": {**_PARAMETERS, "description": "`binary_data_output`: true asks for every output raw"},
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {
            "type": "array",
            "description": "absent: all of them",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "parameters": {**_PARAMETERS, "description": "`binary_data`: true asks for this output raw"},
                },
            },
        },
    },
}
_RESPONSE: Final = {
    "type": "object",
    "required": ["model_name", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "parameters": _PARAMETERS,
        "outputs": {"type": "array", "items": _TENSOR},
    },
}
_ERROR: Final = {
    "type": "object",
    "required": ["error", "code"],
    "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
}
_BINARY: Final = {"schema": {"type": "string", "format": "binary", "description": "JSON part, then raw tensors"}}
_EXAMPLE: Final = {
    "id": "42",
    "inputs": [
        {"name": "distance", "shape": [2, 1], "datatype": "FP32", "data": [1400, 733]},
        {"name": "carrier", "shape": [2, 1], "datatype": "BYTES", "data": ["UA", "AA"]},
    ],
    "outputs": [{"name": "probabilities"}],
}
_ROWS: Final = {
    "type": "object",
    "required": ["instances"],
    "properties": {
        "instances": {
            "type": "array",
            "minItems": 1,
            "items": {"oneOf": [{"type": "object"}, {"type": "array", "items": {}}, {"type": ["number", "string"]}]},
        }
    },
}
_ROW_EXAMPLES: Final = {
    "named features": {"value": {"instances": [{"distance": 1400, "carrier": "UA"}]}},
    "arrays in the model's order": {"value": {"instances": [[1400, "UA"], [733, "AA"]]}},
}
_PREDICTIONS: Final = {
    "type": "object",
    "required": ["predictions"],
    "properties": {
        "predictions": {
            "type": "array",
            "items": {},
            "description": "a value a row, or an object a row when the model has several outputs",
        }
    },
}

_FRAME: Final = {
    "type": "object",
    "required": ["data"],
    "additionalProperties": False,
    "properties": {
        "columns": {"type": "array", "items": {"type": ["string", "integer"]}},
        "index": {"type": "array", "items": {}},
        "data": {"type": "array", "minItems": 1, "items": {"type": "array", "items": {}}},
    },
}
_OTHER_ROWS: Final = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": False,
    "description": "exactly one of the four forms of rows",
    "properties": {
        "instances": {"type": "array", "minItems": 1, "items": {}},
        "dataframe_split": _FRAME,
        "dataframe_records": {"type": "array", "minItems": 1, "items": {"type": "object"}},
        "inputs": {"oneOf": [{"type": "array", "items": {}}, {"type": "object"}]},
        "parameters": {"type": ["object", "null"], "maxProperties": 0, "description": "the model takes none"},
        "params": {"type": ["object", "null"], "maxProperties": 0, "description": "the model takes none"},
    },
}
_OTHER_EXAMPLES: Final = {
    "instances (SageMaker, Vertex AI)": {"value": {"instances": [{"distance": 1400, "carrier": "UA"}]}},
    "dataframe_split (MLflow)": {
        "value": {"dataframe_split": {"columns": ["distance", "carrier"], "data": [[1400, "UA"], [733, "AA"]]}}
    },
    "dataframe_records (MLflow)": {"value": {"dataframe_records": [{"distance": 1400, "carrier": "UA"}]}},
    "inputs (MLflow)": {"value": {"inputs": {"distance": [1400, 733], "carrier": ["UA", "AA"]}}},
}
_OTHER_PREDICTIONS: Final = {
    "type": "object",
    "required": ["predictions"],
    "properties": {
        "predictions": {
            "oneOf": [{"type": "array", "items": {}}, {"type": "object"}],
            "description": "instances: one item a row; the forms of MLflow: every output with its rows",
        }
    },
}
_TEXT: Final = {"schema": {"type": "string"}}
_CSV: Final = {"text/csv": {**_TEXT, "example": "1400,UA\n733,AA\n"}}
_LINES: Final = {"application/jsonlines": {**_TEXT, "example": '[1400,"UA"]\n[733,"AA"]\n'}}


def _json(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema, **more}}


def errors(*statuses: int) -> dict[str, Any]:
    """Responses of the error form, for the statuses given."""
    text = {
        400: "Bad input: names the tensor or feature, what was found, what was expected",
        404: "Unknown model or version",
        406: "Accept names no form this server answers in",
        408: "The body did not arrive in time",
        413: "Body too large",
        415: "Content-Type is none of the forms of rows, or has an unknown parameter",
        500: "The model failed on rows that fit its signature",
        501: "Not supported",
        503: "Not ready; Retry-After says when to ask again",
        504: "The caller's time (x-kingmaker-timeout-ms) ran out before the run",
    }
    return {str(status): {"description": text[status], "content": _json(_ERROR)} for status in statuses}


INFER: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {**_json(_REQUEST, example=_EXAMPLE), "application/octet-stream": _BINARY},
    },
    "responses": {
        "200": {"description": "The outputs", "content": {**_json(_RESPONSE), "application/octet-stream": _BINARY}},
        **errors(400, 404, 408, 413, 500, 503, 504),
    },
}
PREDICT: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": _json(_ROWS, examples=_ROW_EXAMPLES)},
    "responses": {
        "200": {"description": "One prediction a row", "content": _json(_PREDICTIONS)},
        **errors(400, 404, 408, 413, 500, 501, 503, 504),
    },
}
INVOKE: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {**_json(_OTHER_ROWS, examples=_OTHER_EXAMPLES), **_CSV, **_LINES}},
    "responses": {
        "200": {
            "description": "The predictions, in the form Accept asks for",
            "content": {**_json(_OTHER_PREDICTIONS), "text/csv": _TEXT, "application/jsonlines": _TEXT},
        },
        **errors(400, 406, 408, 413, 415, 500, 501, 503),
    },
}
PING: Final[dict[str, Any]] = {"responses": {"200": {"description": "Ready; no body"}, **errors(503)}}
VERSION: Final[dict[str, Any]] = {"responses": {"200": {"description": "As text", "content": {"text/plain": _TEXT}}}}
