"""Commands in a page for operators: what a test may run, what needs a cluster, and what nobody has decided about.

A block of shell is marked by what stands right above it. `<!-- run -->`: it is run and must succeed;
`<!-- run: refused -->`: it is run and must fail; `**Needs a cluster**`: readers see that nobody has tried it.
`<!-- prints -->` stands above a block of text whose lines the block of shell before it must have printed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

MARKS: Final = {"<!-- run -->": "runs", "<!-- run: refused -->": "refused", "**Needs a cluster**": "needs a cluster"}
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PROGRAMS: Final = "kubectl|helm|kingmaker|curl|make|docker|valkey-cli|redis-cli|python"
_COMMAND: Final = re.compile(rf"`((?:{_PROGRAMS}) [^`]+)`")
_INDENTED: Final = re.compile(rf"^ {{4}}(?:\$ )?((?:{_PROGRAMS}) .*)$", re.MULTILINE)


@dataclass
class Block:
    """Shell of a page. mark: one of MARKS' values, None where there is none; prints: lines it must print."""

    line: int
    shell: str
    mark: str | None
    prints: list[str] = field(default_factory=list)


def blocks_of(page: str) -> list[Block]:
    """Blocks of shell, in order."""
    found: list[Block] = []
    for match in _FENCE.finditer(page):
        above = page[: match.start()].rstrip().rpartition("\n")[2].strip()
        if above == "<!-- prints -->":
            found[-1].prints += match[2].splitlines()
        elif match[1] in ("sh", "bash", "console", ""):
            found.append(Block(page.count("\n", 0, match.start()) + 1, match[2], MARKS.get(above)))
    return found


def loose_commands(page: str, allowed: frozenset[str] = frozenset()) -> Iterator[str]:
    """Commands with arguments outside of blocks, where no mark can stand."""
    prose = _FENCE.sub("", page)
    for pattern in (_COMMAND, _INDENTED):
        for match in pattern.finditer(prose):
            if match[1] not in allowed:
                yield match[1]
