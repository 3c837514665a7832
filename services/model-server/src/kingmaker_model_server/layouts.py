"""Raw bodies that are alike but for their values: what their JSON part says is worked out once.

A gateway sends the same few JSON parts again and again, one for each number of rows. The third request with one is cut
by what was remembered of the second.
"""

from typing import Final

import msgspec

from kingmaker_model_server.answers import Writer
from kingmaker_servicekit.recurring import Recurring

_MOST: Final = 512
_LONGEST_TEXT: Final = 4096
_LARGEST_BODY: Final = 256 * 1024
"""Bytes. The values are copied out of the body, which for larger ones takes longer than to read their JSON part."""


class Layout(msgspec.Struct, eq=False, frozen=True):
    """What a JSON part says. places: where the bytes of each input lie, in the model's order; size: of the whole body;
    request_id: as JSON, None where it gives none."""

    places: list[slice]
    size: int
    rows: int
    writer: Writer
    request_id: bytes | None


class Layouts(Recurring[Layout]):
    """By the bytes of the JSON part."""

    def __init__(self) -> None:
        super().__init__(_MOST, _LONGEST_TEXT)

    def is_wanted(self, text: bytes, body: bytes) -> bool:
        """Whether this JSON part has come before, and is worth remembering; it is counted as met now."""
        return len(text) < len(body) <= _LARGEST_BODY and self.is_worth_it(text)
