"""Where Redis is and what it takes to be let in: one address for a server, a socket, what Sentinels watch, a cluster.

    redis://host:6379/0                               rediss:// is the same over TLS
    unix:///run/redis.sock?db=0
    redis+sentinel://h1:26379,h2:26379/<master>/<db>  rediss+sentinel://: Sentinels and servers over TLS
    redis+cluster://h1:6379,h2:6379                   rediss+cluster://: TLS

Read here and not by redis-py, whose URLs know neither Sentinel nor several hosts and take any option, so that
`?ssl_cert_reqs=none` would switch off what must stay on. An address can hold a password, so nothing in it after the
scheme and before the last @ is ever shown.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NoReturn
from urllib.parse import unquote

_EXPECTED: Final = (
    "expected redis://host:6379/0, unix:///path?db=0, redis+sentinel://host:26379,host:26379/<master>/0 "
    "or redis+cluster://host:6379,host:6379; rediss for TLS"
)
_MAX_PASSWORD_BYTES: Final = 4096
_PORTS: Final = {"single": 6379, "sentinel": 26379, "cluster": 6379}

Kind = Literal["single", "socket", "sentinel", "cluster"]


class BadAddress(ValueError):
    """No address; the text says what was found and what was expected, without a password."""


@dataclass(slots=True, frozen=True)
class RedisAddress:
    """hosts: (name, port), those of the Sentinels for a sentinel; path: of a socket; master: what Sentinels call it."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    master: str = ""
    db: int = 0
    tls: bool = False
    username: str = ""
    password: str = field(default="", repr=False)


class BadPassword(ValueError):
    """A password file that cannot be used; the text says why and holds nothing of it."""


@dataclass(slots=True, frozen=True)
class Target:
    """An address and what it takes to be let in."""

    address: RedisAddress
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    sentinel_username: str = ""
    sentinel_password_file: Path | None = None


def parse(url: str) -> RedisAddress:
    """Raises BadAddress."""
    scheme, mark, rest = url.partition("://")
    secure, _, special = scheme.partition("+")
    is_known = secure in ("redis", "rediss") and special in ("", "sentinel", "cluster")
    if not mark or not (is_known or scheme == "unix") or scheme.endswith("+"):
        _refuse(url, f"the scheme is {scheme[:40]!r}" if mark else "it has no scheme")
    credentials, _, place = rest.rpartition("@")
    name, _, secret = credentials.partition(":")
    username, password = unquote(name), unquote(secret)
    if scheme == "unix":
        path, _, query = place.partition("?")
        if not path.startswith("/"):
            _refuse(url, "the path of the socket does not begin with /")
        db = 0 if not query else _db(url, query.removeprefix("db=") if query.startswith("db=") else query)
        return RedisAddress("socket", path=unquote(path), db=db, username=username, password=password)
    if "?" in place or "#" in place:
        _refuse(url, "options are not taken; what can be set has settings of its own")
    kind: Kind = "sentinel" if special == "sentinel" else "cluster" if special else "single"
    authority, _, path = place.partition("/")
    hosts = tuple(_host(url, text, _PORTS[kind]) for text in authority.split(","))
    if kind == "single" and len(hosts) > 1:
        _refuse(url, f"{len(hosts)} hosts, which need +sentinel or +cluster")
    parts = [unquote(part) for part in path.rstrip("/").split("/")] if path.rstrip("/") else []
    master = ""
    if kind == "sentinel":
        if not parts:
            _refuse(url, "the name of the master is missing")
        master = parts.pop(0)
    if len(parts) > 1:
        _refuse(url, f"{len(parts)} parts where the database's number stands")
    db = _db(url, parts[0]) if parts else 0
    if kind == "cluster" and db:
        _refuse(url, f"database {db}, and a cluster has 0 alone")
    return RedisAddress(kind, hosts, "", master, db, secure == "rediss", username, password)


def read_password(file: Path) -> str:
    """What stands in the file, without the line's end. Raises BadPassword."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_PASSWORD_BYTES + 1).decode().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadPassword(f"found {file}: {why}; expected a file that holds the password") from None
    if not text or len(text) > _MAX_PASSWORD_BYTES:
        raise BadPassword(f"found {file}: it is {'too long' if text else 'empty'}; expected the password in it")
    return text


def _host(url: str, text: str, port: int) -> tuple[str, int]:
    name, colon, number = (text, "", "") if text.endswith("]") else text.rpartition(":")
    if not colon:
        name, number = text, str(port)
    if not name.strip("[]") or (":" in name and not name.startswith("[")):
        _refuse(url, "a host is missing" if not name.strip("[]") else "an IPv6 address stands without [ ]")
    if not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
        _refuse(url, "a port is no number from 1 to 65535")
    return name.strip("[]"), int(number)


def _db(url: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        _refuse(url, f"{text[:20]!r} stands where the database's number does")
    return int(text)


def _refuse(url: str, fault: str) -> NoReturn:
    raise BadAddress(f"found {shown(url)}: {fault}; {_EXPECTED}")


def shown(url: str) -> str:
    """An address, whole or broken, without what may be a password."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return "***" if "@" in url or ":" in url else repr(url[:80])
    _, at, place = rest.rpartition("@")
    if place.startswith(":"):  # a host was forgotten: this may be what stands behind the name
        place = "***"
    return f"{scheme[:40]}://{'***@' if at else ''}{place[:120]}"
