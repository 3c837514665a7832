"""How records are read and written: JSON in Redis, with errors that say which record and which field.

Readers ignore fields they do not know, so an older pod survives a newer writer; a record of
another version `v` is refused whole.
"""

from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


class BadRecord(ValueError):
    """A stored record that cannot be used; the text names the field, what was found and what was expected."""


def read_json(raw: bytes | str, kind: type[T]) -> T:
    """A record from its JSON. Raises BadRecord."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord(f"{kind.__name__}: {error}") from None


def write_json(record: msgspec.Struct) -> bytes:
    """A record as JSON, fields in the order of their definition."""
    return msgspec.json.encode(record)
