"""Pages whose figures are filled in by a program and whose words are written by people.

Between `<!-- figures: NAME -->` and `<!-- end -->` stands what was measured and nothing else.
"""

import re
from collections.abc import Callable
from typing import Final

_PLACE: Final = re.compile(r"(<!-- figures: ([a-z_]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(document: str, place: Callable[[str], str]) -> str:
    """The document with every place filled. place: what stands in the place of a name."""

    def fill(match: "re.Match[str]") -> str:
        return f"{match[1]}{place(match[2])}\n{match[3]}"

    return _PLACE.sub(fill, document)
