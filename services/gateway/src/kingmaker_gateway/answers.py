"""What goes back to a client: bytes, and the words of the commonest refusals."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from kingmaker_contracts import problems
from kingmaker_contracts.problems import HTTP_STATUS, Code, Problem

Headers = Sequence[tuple[bytes, bytes]]


JSON: Final = (b"content-type", b"application/json")
ID: Final = b"x-prediction-id"
ID_LINE: Final = ID + b": %b\r\n"


class Answer(NamedTuple):
    """What to send. headers: a tuple where many answers share it, which is worded once for them all; own: the header
    line of this answer alone, with its CRLF: its prediction id, or nothing."""

    status: int
    headers: Headers
    body: bytes
    own: bytes = b""


class Request(Protocol):
    """What came from a client, whole. arrived: perf_counter, when it was."""

    @property
    def body(self) -> bytes: ...
    @property
    def arrived(self) -> float: ...

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name."""
        ...

    def answer(self, status: int, headers: Headers, body: bytes, own: bytes = b"") -> None:
        """Send the fields of an Answer, once."""
        ...


def problem_answer(problem: Problem, headers: Headers = ()) -> Answer:
    """An error as its answer; Retry-After where trying again soon may help, WWW-Authenticate
    where a token does."""
    headers = [*headers, JSON]
    if problem.code in problems.RETRY_AFTER:
        headers.append((b"retry-after", b"1"))
    if problem.code is Code.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    return Answer(HTTP_STATUS[problem.code], headers, problems.body(problem.code, problem.message))


def unknown_model(name: str) -> Problem:
    return Problem(Code.MODEL_NOT_FOUND, f"no model {name[:80]!r} is served here; GET /v2/models lists them")


def unknown_variant(model: str, name: str, variants: Iterable[str]) -> Problem:
    known = ", ".join(map(repr, variants))
    return Problem(Code.VARIANT_NOT_FOUND, f"model {model!r} has no variant {name[:80]!r}; known variants: {known}")


def too_many(model: str, limit: int) -> Problem:
    return Problem(Code.TOO_MANY_REQUESTS, f"{limit} requests are in flight at model {model!r}, the limit")


def too_large(limit: int) -> Problem:
    return Problem(Code.BODY_TOO_LARGE, f"the body is larger than {limit} bytes")


def unread_in_time(patience_s: float) -> Problem:
    return Problem(Code.REQUEST_TIMEOUT, f"the body did not arrive within {patience_s:g} s")
