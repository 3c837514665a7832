"""The form of a file of clients' tokens: a line `name:token` each, `#` begins a comment line.

The name is for people: it tells one client's line from another's. It may repeat, so that an old and a new token
hold side by side while a client changes over. Faults name the line and never what stands in it.
"""

import re
from pathlib import Path
from typing import Final

MIN_TOKEN: Final = 16
_MAX_FILE_BYTES: Final = 1024 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # what RFC 6750 allows behind Bearer


class BadTokens(ValueError):
    """A file that cannot be used; the text holds no token."""


def read(file: Path) -> dict[bytes, str]:
    """Names by token. Raises BadTokens."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadTokens(f"found {file}: {error.strerror}; expected a file with lines name:token") from None
    if len(raw) > _MAX_FILE_BYTES:
        raise BadTokens(f"found {file}: more than {_MAX_FILE_BYTES} bytes; expected a file with lines name:token")
    known: dict[bytes, str] = {}
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, colon, token = text.partition(":")
        fault = _fault(name, colon, token)
        if not fault and token.encode() in known:
            fault = "a token that an earlier line has too; expected one of its own"
        if fault:
            raise BadTokens(f"found {file}, line {number}: {fault}")
        known[token.encode()] = name
    if not known:
        raise BadTokens(f"found {file}: no token in it, so every call would be refused; expected lines name:token")
    return known


def _fault(name: str, colon: str, token: str) -> str:
    if not colon:
        return "no colon; expected name:token"
    if _NAME.fullmatch(name) is None:
        return "a name that is none; expected 1 to 64 letters, digits, dots, dashes and underscores before the colon"
    if len(token) < MIN_TOKEN:
        return f"a token of {len(token)} characters; expected at least {MIN_TOKEN}"
    if _TOKEN.fullmatch(token) is None:
        return "a token that cannot be sent as a bearer token; expected letters, digits and -._~+/, then perhaps ="
    return ""
