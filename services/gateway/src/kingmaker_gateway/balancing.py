"""Which server a frame goes to: the less busy of two drawn at random, among those that are well.

Two draws and not the least busy of all: many gateways that all see one idle server would all fall upon it.
"""

import random
from collections.abc import Collection, Sequence

from kingmaker_gateway.connection import Connection
from kingmaker_gateway.endpoint import Endpoint


def pick(
    endpoints: Sequence[Endpoint], tried: Collection[Endpoint], now: float, dice: random.Random
) -> tuple[Endpoint, Connection] | None:
    """An endpoint and a free connection to it; None: none is free now, but where there is room one is being opened.

    tried: endpoints to be avoided. When nobody is well, the sick are asked: refusing everybody is no better.
    """
    if len(endpoints) == 1:
        [only] = endpoints
        connection = only.take()
        return None if connection is None else (only, connection)
    candidates = [endpoint for endpoint in endpoints if endpoint not in tried] or endpoints
    well = (
        [endpoint for endpoint in candidates if endpoint.is_up and endpoint.breaker.would_admit(now)]
        or [endpoint for endpoint in candidates if endpoint.is_up]
        or candidates
    )
    free = [endpoint for endpoint in well if endpoint.has_idle]
    while free:
        best = free[0] if len(free) == 1 else min(dice.sample(free, 2), key=lambda endpoint: endpoint.outstanding)
        connection = best.take()
        if connection is not None:
            return best, connection
        free.remove(best)
    for endpoint in well:
        endpoint.take()
    return None
