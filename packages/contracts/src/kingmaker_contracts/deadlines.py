"""How long a caller waits, as a header of the call: a client says it to the gateway, the gateway to a model server.

A length of time and not a moment, for clocks of two machines differ. Servers that know nothing of it ignore it.
"""

from typing import Final

from kingmaker_contracts.problems import Code, Problem

TIMEOUT_HEADER: Final = "x-kingmaker-timeout-ms"


def timeout_s(text: str) -> float:
    """The header's value in seconds. Raises Problem."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) == 0:
        raise Problem(Code.BAD_INPUT, f"header {TIMEOUT_HEADER} is {text[:40]!r}, expected a positive whole number")
    return int(text) / 1000
