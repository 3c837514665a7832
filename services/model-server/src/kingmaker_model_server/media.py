"""What a caller of `/invocations` sends and wants back: Content-Type and Accept, decided once.

The platforms that call this path leave the choice of both to their clients, so both are looked at, unlike on the
paths of the Open Inference Protocol, where a body is JSON whatever its headers say.
"""

from enum import StrEnum
from typing import Final, NamedTuple

from kingmaker_contracts.problems import Code, Problem


class Media(StrEnum):
    """The forms of rows, both ways."""

    JSON = "application/json"
    CSV = "text/csv"
    JSON_LINES = "application/jsonlines"


class Content(NamedTuple):
    """What a body is. has_header: whether CSV begins with names; None leaves that to the first line."""

    media: Media
    has_header: bool | None = None


_KNOWN: Final = ", ".join(Media)
_HEADER: Final = {"present": True, "absent": False}
_WILDCARDS: Final = {"*/*": Media.JSON, "application/*": Media.JSON, "text/*": Media.CSV}
_JSON: Final = Content(Media.JSON)


def content_of(header: bytes | None) -> Content:
    """What the body is by its Content-Type; JSON when there is none. Raises Problem (unsupported_media_type)."""
    if header is None or header == b"application/json":
        return _JSON
    text, parameters = _parted(header.decode("latin-1"))
    if text not in set(Media):
        raise _unsupported(f"content-type is {text!r}, expected one of {_KNOWN}")
    media = Media(text)
    known = {"charset", "header"} if media is Media.CSV else {"charset"}
    for name in parameters:
        if name not in known:
            raise _unsupported(f"content-type {media} has the parameter {name!r}, known are {', '.join(sorted(known))}")
    if parameters.get("charset", "utf-8").lower() != "utf-8":
        raise _unsupported(f"content-type has charset {parameters['charset']!r}, expected utf-8")
    said = parameters.get("header")
    if said is not None and said not in _HEADER:
        raise _unsupported(f"content-type has header {said!r}, expected present or absent")
    return Content(media, None if said is None else _HEADER[said])


def answer_of(header: bytes | None) -> Media:
    """The form of the answer by Accept, the best-liked first; JSON when there is none. Raises Problem."""
    if header is None or header in (b"*/*", b"application/json"):
        return Media.JSON
    wishes = [_parted(part) for part in header.decode("latin-1").split(",") if part.strip()]
    liked = [(_liking(parameters), text) for text, parameters in wishes]
    for _, text in sorted((wish for wish in liked if wish[0] > 0), key=lambda wish: -wish[0]):
        if text in _WILDCARDS:
            return _WILDCARDS[text]
        if text in set(Media):
            return Media(text)
    if not wishes:
        return Media.JSON
    shown = header.decode("latin-1")[:80]
    raise Problem(Code.NOT_ACCEPTABLE, f"accept is {shown!r}, this server answers {_KNOWN}")


def _liking(parameters: dict[str, str]) -> float:
    """The q of a wish; what is no number counts as no q."""
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 1.0


def _parted(text: str) -> tuple[str, dict[str, str]]:
    """A media type in lower case, and its parameters."""
    first, *rest = text.split(";")
    pairs = (part.partition("=") for part in rest if part.strip())
    return first.strip().lower(), {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _unsupported(message: str) -> Problem:
    return Problem(Code.UNSUPPORTED_MEDIA_TYPE, message)
