"""What goes back to a client: bytes, and the words of the commonest refusals."""

from collections.abc import Iterable, Sequence
from typing import Final

from kingmaker_contracts import problems
from kingmaker_contracts.problems import HTTP_STATUS, Code, Problem

Headers = Sequence[tuple[bytes, bytes]]


JSON: Final = (b"content-type", b"application/json")
PREDICTION_ID: Final = b"x-prediction-id"


class Answer:
    """What to send. headers: a tuple where many answers share it, which is worded once for them all;
    prediction_id: of a routed request, goes into a header of its own; "": none."""

    __slots__ = ("body", "headers", "prediction_id", "status")

    def __init__(self, status: int, headers: Headers, body: bytes, prediction_id: str = "") -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.prediction_id = prediction_id


def problem_answer(problem: Problem, headers: Headers = (), prediction_id: str = "") -> Answer:
    """An error as its answer; Retry-After where trying again soon may help."""
    headers = [*headers, JSON]
    if problem.code in problems.RETRY_AFTER:
        headers.append((b"retry-after", b"1"))
    return Answer(HTTP_STATUS[problem.code], headers, problems.body(problem.code, problem.message), prediction_id)


def unknown_model(name: str) -> Problem:
    return Problem(Code.MODEL_NOT_FOUND, f"no model {name[:80]!r} is served here; GET /v2/models lists them")


def unknown_variant(model: str, name: str, variants: Iterable[str]) -> Problem:
    known = ", ".join(map(repr, variants))
    return Problem(Code.VARIANT_NOT_FOUND, f"model {model!r} has no variant {name[:80]!r}; known variants: {known}")


def too_large(limit: int) -> Problem:
    return Problem(Code.BODY_TOO_LARGE, f"the body is larger than {limit} bytes")


def unread_in_time(patience_s: float) -> Problem:
    return Problem(Code.REQUEST_TIMEOUT, f"the body did not arrive within {patience_s:g} s")
