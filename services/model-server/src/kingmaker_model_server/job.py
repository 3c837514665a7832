"""A request that has been read and fits the model: what stands between reading, running and writing."""

import math
from collections.abc import Callable
from typing import Any

import msgspec

from kingmaker_model_server.answers import Writer
from kingmaker_model_server.columns import Values

Kind = tuple[tuple[int, ...], ...]


class Job(msgspec.Struct, eq=False, gc=False):
    """One request, ready to run.

    values: one an input, in the model's order.
    kind: the shapes of one row where the model leaves them open; jobs of one kind join. None: runs alone.
    request_id: as JSON; empty where the answer has none.
    unchecked: what reads the request once more, with every check, and its arguments: in a tuple, for few are called and
    a partial takes four times as long to make. None: that is how it was read. Otherwise nobody has looked for
    infinities and missing values in `values` yet.
    Nothing it holds leads back to it, so the garbage collector need not know it.
    """

    values: list[Values]
    rows: int
    kind: Kind | None
    writer: Writer
    request_id: bytes = b""
    unchecked: "tuple[Callable[..., Job], *tuple[Any, ...]] | None" = None
    started: float = 0.0
    """When the reading of its round began; seconds of the process's performance counter."""
    expires: float = math.inf
    """When nobody waits for its answer any more; on the same clock."""

    def strictly(self) -> "Job":
        """The same, read with every check. Raises Problem or BadTensor."""
        if self.unchecked is None:
            return self
        read, *arguments = self.unchecked
        return read(*arguments)
